package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"parlor/store/storetest"
)

// BenchmarkUploads uploads ten files of 100 MB to the real program concurrently, and measures the
// maximum growth of its memory.
func BenchmarkUploads(b *testing.B) {
	const files, size = 10, 100 << 20
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	var grown, took float64
	for b.Loop() {
		b.StopTimer()
		server := startParlor(b, storetest.Folder(b), "--log-level", "error")
		clients := make([]*client, files) // each has a quota of unsent files
		for i := range clients {
			clients[i] = &client{http: http.DefaultClient, base: server.url, user: fmt.Sprintf("user%d", i)}
			if err := clients[i].login(ctx); err != nil {
				b.Fatal(err)
			}
		}
		pid := server.cmd.Process.Pid
		before := memory(b, pid, "VmRSS")
		b.StartTimer()
		began := time.Now()
		var all sync.WaitGroup
		for _, p := range clients {
			all.Go(func() {
				if err := p.upload(ctx, size); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		took += time.Since(began).Seconds()
		b.StopTimer()
		grown += memory(b, pid, "VmHWM") - before
		server.signal(syscall.SIGTERM)
		b.StartTimer()
	}
	b.ReportMetric(grown/float64(b.N)/(1<<20), "MiB/grown")
	b.ReportMetric(files*size/(1<<20)*float64(b.N)/took, "MiB/s")
}

// upload uploads bytes that do not look like a known file type.
func (c *client) upload(ctx context.Context, size int64) error {
	body := io.LimitReader(zeros{}, size)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/media?fileName=zeros", body)
	if err != nil {
		return err
	}
	request.ContentLength = size
	request.Header.Set("Authorization", "Bearer "+c.key)
	reply, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusCreated {
		text, err := io.ReadAll(reply.Body)
		return errors.Join(fmt.Errorf("upload: status %d: %s", reply.StatusCode, text), err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// memory returns a field of a process's status, in bytes.
func memory(b *testing.B, pid int, field string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	found := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(bytes.TrimSpace(status))
	if found == nil {
		b.Fatalf("/proc/%d/status does not contain %s", pid, field)
	}
	kib, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib * 1024
}
