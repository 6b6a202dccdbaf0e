package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"parlor/store/storetest"
)

// copyTo copies a certificate and its key to the files of a server.
func (c certificate) copyTo(t *testing.T, to certificate) {
	t.Helper()
	for from, to := range map[string]string{c.chain: to.chain, c.key: to.key} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Dir(to), filepath.Base(to), string(content))
	}
}

// TestCertificateIsReloaded checks that a renewed certificate is used, and that an invalid one is
// logged once and not used.
func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	first, second := selfSigned(t), selfSigned(t)
	var logged bytes.Buffer
	c, err := openKeyPair(first.chain, first.key, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	current := func() *tls.Certificate {
		t.Helper()
		certificate, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	before := current()
	checkReload := func(asked bool, want string, same *tls.Certificate) {
		t.Helper()
		logged.Reset()
		c.reload(asked)
		if got := logged.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("the log is %q, want %q", got, want)
		}
		if (current() == same) != (same != nil) {
			t.Error("another certificate is in use")
		}
	}
	checkReload(false, "", before)
	checkReload(true, "certificate unchanged", before)
	for _, damage := range []struct {
		name string
		do   func()
	}{
		{"a pair that does not fit", func() { write(t, filepath.Dir(first.key), filepath.Base(first.key), read(t, second.key)) }},
		{"no certificate", func() { write(t, filepath.Dir(first.chain), filepath.Base(first.chain), "hello") }},
		{"no file", func() {
			if err := os.Remove(first.chain); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		damage.do()
		checkReload(false, "keeping the old one", before)
		checkReload(false, "", before)
		checkReload(true, "keeping the old one", before)
		if t.Failed() {
			t.Fatal(damage.name)
		}
	}
	second.copyTo(t, first)
	checkReload(false, "certificate loaded", nil)
	checkReload(false, "", current())
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestInvalidCertificates checks that an invalid certificate is reported before anything is
// started.
func TestInvalidCertificates(t *testing.T) {
	t.Parallel()
	good, other := selfSigned(t), selfSigned(t)
	text := write(t, t.TempDir(), "text.pem", "hello")
	for name, test := range map[string]struct{ chain, key, want string }{
		"no files":      {"/nowhere/a.pem", "/nowhere/b.pem", "parlor: PARLOR_TLS_CERT: open /nowhere/a.pem: no such file or directory\nparlor: PARLOR_TLS_KEY: open /nowhere/b.pem: no such file or directory\n"},
		"no key":        {good.chain, "/nowhere/b.pem", "parlor: PARLOR_TLS_KEY: open /nowhere/b.pem: no such file or directory\n"},
		"text":          {text, good.key, "parlor: PARLOR_TLS_CERT: " + text + " and " + good.key + ": tls: failed to find any PEM data in certificate input\n"},
		"another's key": {good.chain, other.key, "parlor: PARLOR_TLS_CERT: " + good.chain + " and " + other.key + ": tls: private key does not match public key\n"},
	} {
		data := filepath.Join(t.TempDir(), "data")
		got := parlor(t.Context(), t, nil, "serve", "--data", data, "--tls-cert", test.chain, "--tls-key", test.key)
		if got.code != exitUsage || got.out != "" || got.err != test.want {
			t.Errorf("%s: exit code %d, %q, %q", name, got.code, got.out, got.err)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: something was started", name)
		}
	}
}

// TestSIGHUPReloadsCertificate checks that SIGHUP reloads the certificate and never ends the
// program.
func TestSIGHUPReloadsCertificate(t *testing.T) {
	t.Parallel()
	t.Run("with a certificate", func(t *testing.T) {
		t.Parallel()
		files, renewed := selfSigned(t), selfSigned(t)
		p := startParlorWith(t, storetest.Folder(t), nil, "--tls-cert", files.chain, "--tls-key", files.key)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		handshake := func(files certificate) error {
			dialer := tls.Dialer{Config: &tls.Config{RootCAs: files.trust, ServerName: publicHost}}
			conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(p.url, "http://"))
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
		if err := handshake(files); err != nil {
			t.Fatal(err)
		}
		renewed.copyTo(t, files)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for handshake(renewed) != nil {
			if ctx.Err() != nil {
				t.Fatalf("the old certificate stays in use: %s", p.logged())
			}
			wait(ctx, 20*time.Millisecond)
		}
		if metrics := get(t, p.ops+"/metrics"); !strings.Contains(metrics, "parlor_certificate_not_after_seconds") {
			t.Error("no metric contains the expiry of the certificate")
		}
	})
	t.Run("without one", func(t *testing.T) {
		t.Parallel()
		p := startParlor(t, storetest.Folder(t))
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); !strings.Contains(p.logged(), "SIGHUP ignored"); {
			if time.Now().After(deadline) {
				t.Fatalf("the signal was not handled: %s", p.logged())
			}
			wait(t.Context(), 20*time.Millisecond)
		}
		if got := get(t, p.ops+"/livez"); got != "ok\n" {
			t.Errorf("/livez: %q", got)
		}
	})
}
