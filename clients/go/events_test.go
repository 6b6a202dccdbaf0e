package parlor

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEvents(t *testing.T) {
	const stream = "retry: 1873\n\n" +
		"event: sessionReady\nid: 1:2\ndata: {\"sessionID\":\"0193507e-8f5c-7d5a-9a55-6f3f4c1f2a10\",\"resumed\":true,\"rooms\":[],\"heartbeatSeconds\":10}\n\n" +
		": a comment\n\n" +
		"event: tokenWillExpire\ndata: {\"secondsLeft\":30}\n\n" +
		"event: heldHands\ndata: {\"later\":1}\n\n" +
		"event: reconnect\ndata: {\"afterMs\":5}\n"
	broken := errors.New("broken")
	// One byte at a time, as a slow network may deliver them.
	body := io.MultiReader(iotest.OneByteReader(strings.NewReader(stream)), iotest.ErrReader(broken))
	var names []string
	var failed error
	for e, err := range Events[StreamEvent](body) {
		if err != nil {
			failed = err
			continue
		}
		names = append(names, e.Event)
		switch e.Event {
		case "sessionReady":
			frame, err := e.AsSessionReadyFrame()
			if err != nil || e.Id == nil || *e.Id != "1:2" || !frame.Data.Resumed {
				t.Errorf("got %+v with %+v: %v", e, frame, err)
			}
		case "tokenWillExpire":
			frame, err := e.AsTokenWillExpireFrame()
			if err != nil || e.Id != nil || frame.Data.SecondsLeft != 30 {
				t.Errorf("got %+v with %+v: %v", e, frame, err)
			}
		}
	}
	// The last event was cut off; the one that this client does not know was not.
	if got := strings.Join(names, " "); got != "sessionReady tokenWillExpire heldHands" {
		t.Errorf("got the events %s", got)
	}
	if !errors.Is(failed, broken) {
		t.Errorf("got error %v, want %v", failed, broken)
	}
}

func TestEventsOfTheFeed(t *testing.T) {
	const feed = "id: k3.1a.2f\nevent: feedReady\ndata: {\"resumed\":true}\n\n" + "id: k3.1a.2g\nevent: feedReady\ndata: {\n\n"
	var ids []string
	var failed error
	for e, err := range Events[FeedEvent](strings.NewReader(feed)) {
		if failed = err; err == nil {
			ids = append(ids, *e.Id)
		}
	}
	if len(ids) != 1 || ids[0] != "k3.1a.2f" || failed == nil {
		t.Errorf("got the IDs %q and error %v, want one event and an error", ids, failed)
	}
}

// FuzzFrames checks that the frames of a stream do not depend on how it is divided into reads, and
// that a stream that was cut off has no others.
func FuzzFrames(f *testing.F) {
	f.Add("retry: 1873\n\nevent: a\nid: 1:2\ndata: {}\n\n: a comment\n\ndata: 1\ndata: 2\r\n\r\nevent: cut", 40)
	f.Add("data: x\n\ry\ndata: z\n\n", 9)
	f.Fuzz(func(t *testing.T, stream string, cut int) {
		read := func(r io.Reader) (all []frame) {
			for next, err := range frames(r) {
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, next)
			}
			return all
		}
		all := read(strings.NewReader(stream))
		if bytewise := read(iotest.OneByteReader(strings.NewReader(stream))); !reflect.DeepEqual(bytewise, all) {
			t.Errorf("byte by byte, %q has the frames %+v, not %+v", stream, bytewise, all)
		}
		cut = max(0, min(cut, len(stream)))
		if some := read(strings.NewReader(stream[:cut])); len(some) > len(all) || len(some) > 0 && !reflect.DeepEqual(some, all[:len(some)]) {
			t.Errorf("cut off after %d bytes, %q has the frames %+v, not %+v", cut, stream, some, all)
		}
	})
}
