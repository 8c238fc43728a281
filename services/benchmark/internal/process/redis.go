package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/countersign/countersign/pkg/secret"
)

const (
	redisBinary = "redis-server"
	// redisAttempts is how many ports NewRedis tries. Another program may take a free port before Redis
	// listens on it.
	redisAttempts = 5
	redisTimeout  = 20 * time.Second
)

// Redis is a running Redis server with a password, on a port of the loopback interface. It persists nothing.
type Redis struct {
	*running
	// URL contains the password.
	URL string
}

// HasRedis reports whether a redis-server is on the PATH.
func HasRedis() bool {
	_, err := exec.LookPath(redisBinary)
	return err == nil
}

// NewRedis starts a Redis server on some CPUs, and waits until it answers. folder is its working directory.
// The caller must Kill it.
func NewRedis(ctx context.Context, folder string, cpus []int) (*Redis, error) {
	var err error
	for range redisAttempts {
		var r *Redis
		if r, err = tryRedis(ctx, folder, cpus); err == nil || ctx.Err() != nil {
			return r, err
		}
	}
	return nil, err
}

func tryRedis(ctx context.Context, folder string, cpus []int) (*Redis, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	password := secret.Mint().Reveal()
	// The configuration contains the password. It goes to the standard input, because other users could read
	// it in the arguments.
	config := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsave \"\"\nappendonly no\nrequirepass %s\n", port, folder, password)
	command := exec.Command(redisBinary, "-")
	var output bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(config), &output, &output
	started, err := launch(command, cpus)
	if err != nil {
		return nil, err
	}
	where := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: address, Path: "/0"}
	r := &Redis{running: started, URL: where.String()}
	if err := r.await(ctx, address); err != nil {
		r.Kill()
		return nil, fmt.Errorf("%s: %w\n%s", redisBinary, err, output.Bytes())
	}
	return r, nil
}

// freeAddress returns a loopback address with a port that was free just before.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// await waits until the server answers. It sends a PING without the password, so the expected answer is the
// error NOAUTH.
func (r *Redis) await(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	for {
		if answers(ctx, address) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ended:
			return errors.New("the process ended at once")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, address string) bool {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(connection, "PING\r\n")
	answer := make([]byte, 7)
	_, err = io.ReadFull(connection, answer)
	return err == nil && string(answer) == "-NOAUTH"
}
