package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serveHTTPFloor runs the cheapest server whose calls net/http serves. Like the floor, it has no
// users and stores nothing: the handler of a message writes it to the streams of its room, whose
// connections are taken out of net/http. The difference from the floor is the price of net/http.
func serveHTTPFloor(ctx context.Context, address string, ready func(net.Addr)) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	f := &httpFloor{topics: make(map[string]*httpTopic)}
	defer f.close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sub/{room}", f.subscribe)
	mux.HandleFunc("POST /pub/{room}", f.publish)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	ready(l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

type httpFloor struct {
	mu     sync.Mutex // guards topics
	topics map[string]*httpTopic
}

type httpTopic struct {
	mu          sync.Mutex // guards all below; held while a message is written, which orders messages
	subscribers []net.Conn
	last        int64
	frame       []byte
}

func (f *httpFloor) topic(r *http.Request) *httpTopic {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := r.PathValue("room")
	if f.topics[name] == nil {
		f.topics[name] = &httpTopic{}
	}
	return f.topics[name]
}

func (f *httpFloor) subscribe(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	t := f.topic(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := io.Copy(conn, strings.NewReader(floorSubscribed)); err != nil {
		_ = conn.Close()
		return
	}
	t.subscribers = append(t.subscribers, conn)
}

// publish writes a message to all subscribers, and waits for those that read too slowly.
func (f *httpFloor) publish(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(http.MaxBytesReader(w, r.Body, floorBuffer))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	t := f.topic(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.frame = strconv.AppendInt(append(t.frame[:0], "id: "...), t.last, 10)
	t.frame = append(append(append(t.frame, "\ndata: "...), message...), "\n\n"...)
	open := t.subscribers[:0]
	for _, conn := range t.subscribers {
		if _, err := conn.Write(t.frame); err != nil {
			_ = conn.Close()
			continue
		}
		open = append(open, conn)
	}
	t.subscribers = open
	w.WriteHeader(http.StatusAccepted)
}

func (f *httpFloor) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.topics {
		t.mu.Lock()
		for _, conn := range t.subscribers {
			_ = conn.Close()
		}
		t.mu.Unlock()
	}
}
