package servicetest

import (
	"net/http"
	"strings"
	"testing"

	"parlor/room"
)

// TestTextsThroughStreams sends each character that JSON, Server-Sent Events or a reader of lines
// treats specially. readEvents checks that each event has its lines and no other ones.
func TestTextsThroughStreams(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	stream, _ := bob.listen()
	begin := stream.id
	feed, _ := s.admin().follow("")
	var all strings.Builder
	for c := rune(1); c < 0xa0; c++ {
		all.WriteRune(c)
	}
	texts := []string{
		all.String(), "\u2028\u2029\ufeff\ufffd\U0010ffff", "a\n\ndata: x\nid: 1\r\revent: y", "\\u0085\u0085\\\u0085\"\u0085",
		"</script><!-- & -->", "\u200b\u202e\u2066👋🏽é", ":", " ", "\u0085",
	}
	for _, text := range texts {
		sent := message(alice.call("POST", roomPath("lobby", "/messages"),
			object{"kind": "custom", "subType": 1, "text": text, "extendedData": text}).is(http.StatusCreated))
		live := skipTo[room.MessagesReceived](stream).MessageList[0]
		fed := skipTo[room.MessagesReceived](feed).MessageList[0]
		for what, m := range map[string]room.Message{"the reply": sent, "the stream": live, "the feed": fed} {
			if m.Text != text || m.ExtendedData != text {
				t.Errorf("%s has %+q and %+q, want %+q", what, m.Text, m.ExtendedData, text)
			}
		}
	}
	again, _ := bob.listen(resume(begin))
	for _, text := range texts {
		if got := skipTo[room.MessagesReceived](again).MessageList[0]; got.Text != text {
			t.Errorf("the replay has %+q, want %+q", got.Text, text)
		}
	}
}
