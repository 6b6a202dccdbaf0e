package clustertest

import (
	"net"
	"sync"
	"testing"
)

// Relay forwards connections to an address. While it is silent, nothing arrives and nobody is told,
// as in a network that drops all packets. What was sent meanwhile arrives afterwards.
type Relay struct {
	Address string // HOST:PORT

	gate sync.RWMutex // held while it is silent
}

// StartRelay starts a relay until the end of the test, when it must not be silent.
func StartRelay(t testing.TB, network, to string) *Relay {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Address: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			onward, err := (&net.Dialer{}).DialContext(t.Context(), network, to)
			if err != nil {
				_ = from.Close()
				continue
			}
			running.Go(func() { r.forward(from, onward) })
			running.Go(func() { r.forward(onward, from) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return r
}

// Silence makes the relay silent. Speak ends that.
func (r *Relay) Silence() { r.gate.Lock() }

// Speak ends the silence.
func (r *Relay) Speak() { r.gate.Unlock() }

// forward copies from one connection to another until either is closed.
func (r *Relay) forward(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.gate.RLock()
		r.gate.RUnlock() //nolint:staticcheck // it waits until the relay is not silent
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
