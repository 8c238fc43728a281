package faults

import (
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// held are the changes that validators could supply when the store was restored or wiped, by tag, with
// those validators. What they hold must outlive that (B30).
type held map[record.Tag][]holder

// holder is a validator in one of its lives.
type holder struct {
	seat int
	life int64
}

// holders returns what the validators of this process hold beyond a backup, whose partitions had at least
// some revisions: those that hold every change since. Validators in processes of their own are not asked.
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

// since returns the tags of those links that come after a revision; none when some before them are missing.
func (c *campaign) since(entries [][]byte, partition int, revision uint64) (tags []record.Tag) {
	for i, raw := range entries {
		var previous record.Cursor
		link, err := c.codec.OpenLink(partition, raw)
		if err == nil {
			previous = link.Previous()
		} else if start, err := c.codec.OpenEpoch(partition, raw); err == nil {
			previous = start.Previous // nothing, when all that there was follows
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

// available tells whether somebody who held a change when the store was restored still sits there.
func (c *campaign) available(l *loss, m made) bool {
	return slices.ContainsFunc(l.held[m.at.Tag], func(h holder) bool {
		now := c.seats[h.seat].now.Load()
		return now != nil && now.life == h.life
	})
}

// shows tells whether a validator must go on to show a change while the store is restored, since it held
// the change itself. Nobody can tell before it is over: authorities that are away for long have the
// validators take the backup as it is.
func (l *loss) shows(m made, s span) bool {
	if !slices.Contains(l.held[m.at.Tag], holder{s.seat, s.life}) {
		return false
	}
	until := moment(l.until.Load())
	return until == 0 && !s.late || until != 0 && until-l.From < moment(healBound)
}
