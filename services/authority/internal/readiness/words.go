package readiness

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// maxSentences is how many sentences of one kind a report has. The last one says how many more there are.
const maxSentences = 20

// limited returns at most maxSentences sentences.
func limited(sentences []string, what string) []string {
	if len(sentences) <= maxSentences {
		return sentences
	}
	more := len(sentences) - maxSentences + 1
	return append(sentences[:maxSentences-1:maxSentences-1], fmt.Sprintf("and %s more %s", count(uint64(more)), what))
}

// maxNames is how many tokens one sentence names.
const maxNames = 10

// list joins words with commas, at most maxNames of them.
func list(words []string) string {
	if len(words) > maxNames {
		words = append(words[:maxNames:maxNames], fmt.Sprintf("and %s more", count(uint64(len(words)-maxNames))))
	}
	return strings.Join(words, ", ")
}

// nameOf returns how sentences call a token: `ios-backend` (tok_...).
func nameOf(t *record.Token) string {
	if t.Name == "" {
		return t.ID
	}
	return fmt.Sprintf("`%s` (%s)", t.Name, t.ID)
}

// count writes a number with a comma between its thousands.
func count(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// times writes how often something happened: once, 2 times, 4,211 times.
func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return count(n) + " times"
}

// requests writes a number of requests.
func requests(n uint64) string {
	if n == 1 {
		return "1 request"
	}
	return count(n) + " requests"
}

// percent writes a share from 0 to 1 with at most two digits after the point.
func percent(share float64) string {
	if 0 < share && share < 0.0001 {
		return "less than 0.01 %"
	}
	text := strconv.FormatFloat(share*100, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + " %"
}

// clock writes a time for people: to the second, in UTC.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
