package faults

import (
	"context"
	"crypto/tls"
	"errors"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign/countersign/pkg/testkit/testcert"
)

const (
	// renewInterval is the mean pause between two certificates of a process. certLifetime is how long each is
	// valid: a process that serves only its first one is soon out of reach.
	renewInterval = 3 * time.Second
	certLifetime  = 20 * time.Second
	// reloadInterval is how often the processes check their files. renewBound is how long a renewed
	// certificate may take to be served, on a busy machine.
	reloadInterval = 200 * time.Millisecond
	renewBound     = 15 * time.Second
)

const (
	notRenewed = "a renewed certificate was not served"
	badServed  = "a bad certificate took the place of a good one"
)

// certificates are the certificate files of one process. Each process gets its new files in one of several
// ways.
type certificates struct {
	folder string
	way    int // of ways
	by     *testcert.Authority
	now    *testcert.Pair
}

// ways is the number of ways to change files: in place, by renaming each, and by a symbolic link to their
// folder.
const ways = 3

const (
	certName = "tls.crt"
	keyName  = "tls.key"
)

func newCertificates(folder string, way int, by *testcert.Authority) (*certificates, error) {
	c := &certificates{folder: folder, way: way % ways, by: by}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if c.way == 2 {
		for _, name := range []string{certName, keyName} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)); err != nil {
				return nil, err
			}
		}
	}
	next, err := by.Issue(certLifetime)
	if err != nil {
		return nil, err
	}
	return c, c.put(next)
}

// put changes both files.
func (c *certificates) put(next *testcert.Pair) error {
	c.now = next
	return c.write(next.Certificate, next.Key)
}

func (c *certificates) write(certificate, key []byte) error {
	files := map[string][]byte{certName: certificate, keyName: key}
	into := c.folder
	if c.way == 2 {
		var err error
		if into, err = os.MkdirTemp(c.folder, "..data_"); err != nil {
			return err
		}
	}
	var errs []error
	for name, data := range files {
		path := filepath.Join(into, name)
		if c.way == 1 {
			errs = append(errs, os.WriteFile(path+".next", data, 0o600), os.Rename(path+".next", path))
		} else {
			errs = append(errs, os.WriteFile(path, data, 0o600))
		}
	}
	if c.way == 2 {
		link := filepath.Join(c.folder, "..data")
		old, _ := os.Readlink(link)
		errs = append(errs, os.Symlink(filepath.Base(into), link+"_tmp"), os.Rename(link+"_tmp", link))
		if old != "" {
			errs = append(errs, os.RemoveAll(filepath.Join(c.folder, old)))
		}
	}
	return errors.Join(errs...)
}

// served returns the serial number of the certificate that a process shows to a new connection; nil when it
// shows none.
func (c *certificates) served(ctx context.Context, address string) *big.Int {
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{Timeout: time.Second},
		Config:    &tls.Config{RootCAs: c.by.Pool, NextProtos: []string{"h2"}},
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil
	}
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber
}

// renew renews the certificate of a process again and again. A renewal is no fault: it must not disturb
// anything.
func (c *campaign) renew(ctx context.Context, m member, r *rand.Rand) {
	for {
		pause(ctx, renewInterval/2+upTo(r, renewInterval))
		if ctx.Err() != nil {
			return
		}
		if err := c.renewOnce(ctx, m, r.IntN(4) == 0); err != nil {
			c.oracle.violate(notRenewed, c.oracle.now(), "%s: %v", m.name, err)
		}
	}
}

// renewOnce renews a certificate. With bad, it first puts garbage in its place.
func (c *campaign) renewOnce(ctx context.Context, m member, bad bool) error {
	// The process must not start with a bad file: it would refuse, which is right but not tested here.
	m.starting.Lock()
	defer m.starting.Unlock()
	life, _ := m.alive()
	if life != 0 && !m.stopped() && m.certificates.served(ctx, m.settings.Listen) == nil {
		return nil // the process has not read its files yet: a half-written pair would keep it from starting
	}
	if bad && life != 0 && !m.stopped() {
		if err := c.tryBad(ctx, m, life); err != nil {
			return err
		}
	}
	next, err := m.certificates.by.Issue(certLifetime)
	if err != nil {
		return err
	}
	if err := m.certificates.put(next); err != nil {
		return err
	}
	life, _ = m.alive()
	for until := time.Now().Add(renewBound); life != 0; pause(ctx, pollInterval) {
		switch {
		case m.gone(ctx, life):
			return nil
		case next.Serial.Cmp(orZero(m.certificates.served(ctx, m.settings.Listen))) == 0:
			c.stats.reach(renewedServed)
			if time.Now().After(m.firstExpires) {
				c.stats.reach(firstOutlived)
			}
			return nil
		case time.Now().After(until):
			if m.same(life) && !m.stopped() {
				c.oracle.violate(notRenewed, c.oracle.now(), "%s after %s", m.name, renewBound)
			}
			return nil
		}
	}
	return nil
}

// tryBad puts garbage in the place of the certificate for a while. The process must go on with the old one.
func (c *campaign) tryBad(ctx context.Context, m member, life int64) error {
	before := m.certificates.now
	if before.Serial.Cmp(orZero(m.certificates.served(ctx, m.settings.Listen))) != 0 {
		return nil // the process was suspended or restarted, and has not read the good file yet
	}
	if err := m.certificates.write([]byte("no certificate"), before.Key); err != nil {
		return err
	}
	pause(ctx, 1500*time.Millisecond) // long enough to be read and refused
	served := m.certificates.served(ctx, m.settings.Listen)
	switch {
	case served == nil || m.gone(ctx, life):
	case served.Cmp(before.Serial) == 0:
		c.stats.reach(badKept)
	default:
		c.oracle.violate(badServed, c.oracle.now(), "%s", m.name)
	}
	return nil
}

func orZero(n *big.Int) *big.Int {
	if n == nil {
		return new(big.Int)
	}
	return n
}
