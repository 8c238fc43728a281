package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// metrics are the values at /metrics of a server of the product, by name and labels in text form.
type metrics map[string]float64

// readMetrics reads the metrics of a server.
func readMetrics(ctx context.Context, address string) (metrics, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", request.URL, response.Status)
	}
	return parseMetrics(response.Body)
}

// parseMetrics parses the text format of Prometheus, as far as the product uses it.
func parseMetrics(from io.Reader) (metrics, error) {
	m := metrics{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", line, err)
		}
		m[line[:at]] = value
	}
	return m, lines.Err()
}

// gaps returns how often a partition was loaded because its log no longer reached back to the replica's
// cursor.
func (m metrics) gaps() uint64 { return uint64(m[`countersign_resyncs_total{cause="gap"}`]) }

// revision returns the revision of a partition; 0 when it is not loaded.
func (m metrics) revision(partition int) uint64 {
	return uint64(m[fmt.Sprintf(`countersign_partition_revision{partition="%d"}`, partition)])
}
