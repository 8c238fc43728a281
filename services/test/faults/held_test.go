package faults

import (
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// held maps the tag of a change to the validators that held the change when the store was restored or wiped.
// A change that a running validator holds must survive (B30).
type held map[record.Tag][]holder

// holder is one start of a validator.
type holder struct {
	seat int
	life int64
}

// holders returns the changes that validators of this process hold beyond a backup with at least these heads,
// without a gap. Validators in processes of their own are not asked.
func (c *campaign) holders(backup map[int]record.Head) held {
	h := held{}
	for _, s := range c.seats {
		now := s.now.Load()
		if now == nil || now.Replica() == nil {
			continue
		}
		for partition, head := range backup {
			for _, tag := range c.since(now.Replica().Links(partition), partition, head.Revision) {
				h[tag] = append(h[tag], holder{s.number, now.life})
			}
		}
	}
	return h
}

// since returns the tags of the links after a revision; none when some links in between are missing.
func (c *campaign) since(entries [][]byte, partition int, revision uint64) (tags []record.Tag) {
	for i, raw := range entries {
		var previous record.Cursor
		link, err := c.codec.OpenLink(partition, raw)
		if err == nil {
			previous = link.Previous()
		} else if start, err := c.codec.OpenEpoch(partition, raw); err == nil {
			previous = start.Previous // zero when the epoch has the whole history
		}
		if i == 0 && previous.Revision > revision {
			return nil
		}
		if err == nil && link.Revision > revision {
			tags = append(tags, link.Tag)
		}
	}
	return tags
}

// available reports whether a validator that held a change when the loss began still runs.
func (c *campaign) available(l *loss, m made) bool {
	return slices.ContainsFunc(l.held[m.at.Tag], func(h holder) bool {
		now := c.seats[h.seat].now.Load()
		return now != nil && now.life == h.life
	})
}

// shows reports whether a validator must still show a change during a restoration, because it held the change
// itself. The answer is known only afterwards: authorities that are away for long make validators accept the
// backup.
func (l *loss) shows(m made, s span) bool {
	if !slices.Contains(l.held[m.at.Tag], holder{s.seat, s.life}) {
		return false
	}
	until := moment(l.until.Load())
	return until == 0 && !s.late || until != 0 && until-l.From < moment(healBound)
}
