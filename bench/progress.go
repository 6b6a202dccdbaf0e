package bench

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// progress samples the run and prints a line each second.
type progress struct {
	run   *run
	to    io.Writer
	phase atomic.Pointer[string]
}

// setPhase sets the name of the current phase.
func (p *progress) setPhase(phase string) { p.phase.Store(&phase) }

// start starts sampling. The returned function stops it.
func (p *progress) start() (stop func()) {
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		last := p.run.markWith(reading{server: p.run.meter.server()})
		for {
			select {
			case <-stopping:
				return
			case <-ticker.C:
			}
			now := p.run.markWith(reading{server: p.run.meter.server()})
			s := p.sample(last, now)
			p.run.report.Samples = append(p.run.report.Samples, s)
			if p.to != nil {
				p.write(s, now.tally)
			}
			last = now
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}

// sample returns the changes between two marks.
func (p *progress) sample(from, to mark) Sample {
	seconds := time.Duration(to.at - from.at).Seconds()
	s := Sample{
		Seconds: time.Duration(to.at).Seconds(), Phase: "starting", Streams: to.tally.live,
		MessagesPerSecond:   float64(to.messages-from.messages) / seconds,
		DeliveriesPerSecond: float64(to.tally.messages-from.tally.messages) / seconds,
		ServerCores:         (to.reading.server.cpu - from.reading.server.cpu).Seconds() / seconds,
		ServerBytes:         to.reading.server.memory.rss,
	}
	if phase := p.phase.Load(); phase != nil {
		s.Phase = *phase
	}
	return s
}

func (p *progress) write(s Sample, t tally) {
	line := fmt.Sprintf("%4.0fs  %s: %d streams, %.0f messages/s, %.0f deliveries/s", s.Seconds, s.Phase, s.Streams, s.MessagesPerSecond, s.DeliveriesPerSecond)
	if len(p.run.PIDs) > 0 {
		line += fmt.Sprintf(", server %.2f cores, %.1f MiB", s.ServerCores, float64(s.ServerBytes)/(1<<20))
	}
	if t.cut > 0 || t.refused > 0 {
		line += fmt.Sprintf(", %d cut by the server, %d rejected", t.cut, t.refused)
	}
	_, _ = fmt.Fprintln(p.to, line)
}
