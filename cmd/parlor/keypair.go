package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// keyPairInterval is how often the certificate's files are looked at. Tools that renew certificates need no hook for it.
const keyPairInterval = 10 * time.Second

// keyPair is the API's certificate with its key. It is read again when its files change, for the connections that come
// then; those that are open go on with the old one.
type keyPair struct {
	chainFile, keyFile string
	log                *slog.Logger
	pair               atomic.Pointer[tls.Certificate]
	content            []byte // of the files when they were last looked at, good or bad; watch's own
}

// openKeyPair reads the files. Errors: faults of the settings.
func openKeyPair(chainFile, keyFile string, log *slog.Logger) (*keyPair, error) {
	c := &keyPair{chainFile: chainFile, keyFile: keyFile, log: log}
	pair, content, err := c.read()
	if err != nil {
		return nil, err
	}
	c.content = content
	c.use(pair)
	return c, nil
}

// read returns what the files hold, and the pair that it makes. A pair does not fit while only one of the files was renewed.
func (c *keyPair) read() (pair *tls.Certificate, content []byte, err error) {
	chain, chainErr := readSetting("PARLOR_TLS_CERT", c.chainFile)
	key, keyErr := readSetting("PARLOR_TLS_KEY", c.keyFile)
	if err := errors.Join(chainErr, keyErr); err != nil {
		return nil, nil, err
	}
	content = bytes.Join([][]byte{chain, key}, []byte{0})
	parsed, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, content, fmt.Errorf("PARLOR_TLS_CERT: %s and %s: %w", c.chainFile, c.keyFile, err)
	}
	return &parsed, content, nil
}

func readSetting(setting, file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return content, nil
}

func (c *keyPair) use(pair *tls.Certificate) {
	c.pair.Store(pair)
	ends := pair.Leaf.NotAfter
	c.log.Info("certificate loaded", "file", c.chainFile, "names", pair.Leaf.DNSNames, "notAfter", ends)
	if time.Now().After(ends) {
		c.log.Warn("the certificate has expired: browsers refuse it", "file", c.chainFile, "notAfter", ends)
	}
}

// get is tls.Config.GetCertificate.
func (c *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// notAfter is when the certificate in use expires.
func (c *keyPair) notAfter() time.Time { return c.pair.Load().Leaf.NotAfter }

// look reads the files again, and keeps the certificate in use where the new one is bad or not there. It logs
// each bad one once, and again when somebody asks.
func (c *keyPair) look(asked bool) {
	pair, content, err := c.read()
	changed := !bytes.Equal(content, c.content)
	c.content = content
	switch {
	case err != nil && (changed || asked):
		c.log.Error("the new certificate is bad; the old one stays in use", "error", err, "notAfter", c.notAfter())
	case err == nil && changed:
		c.use(pair)
	case err == nil && asked:
		c.log.Info("the certificate is as before", "file", c.chainFile, "notAfter", c.notAfter())
	}
}

// watchKeyPair opens the certificate, where there is one, and reads it again when its files change or a SIGHUP comes. The signal
// is waited for from the beginning and without a certificate too, as it ends a program that does not.
func (c *ServeCmd) watchKeyPair(ctx context.Context, log *slog.Logger) (secured *keyPair, stop func(), err error) {
	if c.TLSCert != "" {
		if secured, err = openKeyPair(c.TLSCert, c.TLSKey, log); err != nil {
			return nil, nil, err
		}
	}
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(keyPairInterval)
		defer ticker.Stop()
		secured.watch(ctx, log, ticker.C, hangUps)
	})
	return secured, func() {
		signal.Stop(hangUps)
		cancel()
		watching.Wait()
	}, nil
}

// watch looks at the files with each tick, and when a signal asks for it. c may be nil.
func (c *keyPair) watch(ctx context.Context, log *slog.Logger, ticks <-chan time.Time, hangUps <-chan os.Signal) {
	for {
		asked := false
		select {
		case <-ticks:
		case <-hangUps:
			asked = true
		case <-ctx.Done():
			return
		}
		switch {
		case c != nil:
			c.look(asked)
		case asked:
			log.Info("SIGHUP changes nothing: there is no certificate to read again")
		}
	}
}
