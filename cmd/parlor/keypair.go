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

// keyPairInterval is how often the certificate's files are checked, so that tools that renew
// certificates need no hook.
const keyPairInterval = 10 * time.Second

// keyPair is the API's certificate with its key. It is reloaded when its files change, and then
// used for new connections. Open connections keep the previous one.
type keyPair struct {
	chainFile, keyFile string
	log                *slog.Logger
	pair               atomic.Pointer[tls.Certificate]
	content            []byte // of the files at the last check, valid or not; used only by watch
}

// openKeyPair reads the files. Its errors name the settings.
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

// read returns the content of the files, and the certificate in it. It fails while only one of the
// files has been renewed, because the key does not match the certificate.
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
		c.log.Warn("certificate expired: browsers reject it", "file", c.chainFile, "notAfter", ends)
	}
}

// get implements tls.Config.GetCertificate.
func (c *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil }

// notAfter returns when the current certificate expires.
func (c *keyPair) notAfter() time.Time { return c.pair.Load().Leaf.NotAfter }

// reload reads the files again. It keeps the current certificate if the new one is invalid or
// missing. It logs each invalid one once, and again on request.
func (c *keyPair) reload(asked bool) {
	pair, content, err := c.read()
	changed := !bytes.Equal(content, c.content)
	c.content = content
	switch {
	case err != nil && (changed || asked):
		c.log.Error("certificate reload failed: keeping the old one", "error", err, "notAfter", c.notAfter())
	case err == nil && changed:
		c.use(pair)
	case err == nil && asked:
		c.log.Info("certificate unchanged", "file", c.chainFile, "notAfter", c.notAfter())
	}
}

// watchKeyPair loads the certificate, if there is one, and reloads it when its files change or a
// SIGHUP arrives. It handles the signal from the start, and without a certificate too, because the
// signal ends a program that does not handle it.
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

// watch checks the files with each tick and after each signal. c may be nil.
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
			c.reload(asked)
		case asked:
			log.Info("SIGHUP ignored: there is no certificate to reload")
		}
	}
}
