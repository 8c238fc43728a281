package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// doTimeout bounds a command of Do.
const doTimeout = 5 * time.Second

// Do sends one command to the server, bypassing its proxy, on a new connection and as the user of URL. The
// answer is nil, an int64, a string or a []any of these. An error reply of Redis becomes an error.
func (s *Server) Do(args ...string) (any, error) {
	connection, err := net.DialTimeout("tcp", s.Address(), doTimeout)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(doTimeout)); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(connection)
	if s.admin != "" {
		if _, err := send(connection, reader, "AUTH", s.admin, s.admin); err != nil {
			return nil, err
		}
	}
	return send(connection, reader, args...)
}

// send sends one command and reads its answer.
func send(connection io.Writer, reader *bufio.Reader, args ...string) (any, error) {
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(connection, request.String()); err != nil {
		return nil, err
	}
	answer, err := readAnswer(reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return answer, nil
}

// do is Do, but an error fails the test.
func (s *Server) do(args ...string) any {
	s.t.Helper()
	answer, err := s.Do(args...)
	if err != nil {
		s.t.Fatalf("redistest: %s: %v", s.Address(), err)
	}
	return answer
}

// readAnswer reads one reply in version 2 of the protocol (Redis serialization protocol).
func readAnswer(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty line")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, errors.New(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		data := make([]byte, n+2)
		_, err := io.ReadFull(r, data)
		return string(data[:n]), err
	case kind == '*':
		items := make([]any, n)
		for i := range items {
			if items[i], err = readAnswer(r); err != nil {
				return nil, err
			}
		}
		return items, nil
	}
	return nil, fmt.Errorf("answer %q", line)
}

// fields reads key:value lines, as INFO and CLUSTER INFO write them.
func fields(text any) map[string]string {
	found := map[string]string{}
	lines, _ := text.(string)
	for line := range strings.Lines(lines) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			found[key] = value
		}
	}
	return found
}

// Info returns the fields of a section of INFO; none when the server does not answer.
func (s *Server) Info(section string) map[string]string {
	text, _ := s.Do("INFO", section)
	return fields(text)
}
