package servicetest

import (
	"strings"
	"testing"

	"parlor/room"
)

// TestRestoredDatabase checks that streams and feeds do not resume from cursors of an older epoch.
// The database may contain their positions, but with other events.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	alice.send("lobby", "before")
	stream.text()
	cursor := stream.id
	stream.disconnect()
	feed, _ := s.admin().follow("")
	place := feed.id
	feed.disconnect()

	restored := newService(t, func(c *setup) { c.database, c.store.Origin = s.database, "a copy" })
	again := &client{service: restored, http: restored.http, session: alice.session}
	restored.log.secret(alice.SessionKey)
	for name, sent := range map[string]string{"of before": cursor, "of a server that knew no epochs": cursor[strings.Index(cursor, ".")+1:]} {
		stream, ready := again.listen(resume(sent))
		if ready.Resumed {
			t.Errorf("the stream resumed from a cursor %s", name)
		}
		if r := expect[room.RoomReset](stream); r.Reason != room.ResetEpochChanged || r.RoomID != "lobby" {
			t.Errorf("with a cursor %s, the room's reset is %+v", name, r)
		}
		if r := expect[room.InboxReset](stream); r.Reason != room.ResetEpochChanged {
			t.Errorf("with a cursor %s, the inbox's reset is %+v", name, r)
		}
		again.send("lobby", "after")
		if got := stream.text(); got != "after" {
			t.Errorf("with a cursor %s, the next message is %q", name, got)
		}
		later := stream.id
		stream.disconnect()
		resumed, ready := again.listen(resume(later))
		if !ready.Resumed {
			t.Error("the stream did not resume from a cursor of the new epoch")
		}
		resumed.disconnect()
	}
	for _, sent := range []string{place, place[strings.Index(place, ".")+1:]} {
		feed, ready := restored.admin().follow(sent)
		if ready.Resumed || ready.Reason != room.ResetEpochChanged {
			t.Errorf("the feed begins with %+v", ready)
		}
		if got := feed.nextSummary(); got != "lobby created" {
			t.Errorf("the first event of the feed is %q, want the oldest event", got)
		}
		later := feed.id
		feed.disconnect()
		if _, ready := restored.admin().follow(later); !ready.Resumed {
			t.Errorf("with a cursor of the new epoch, the feed begins with %+v", ready)
		}
	}
}
