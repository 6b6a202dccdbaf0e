package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"parlor/room"
)

// messageStore has the store methods for the messages of rooms.
type messageStore interface {
	PostMessage(ctx context.Context, send room.RoomSend) (m room.Message, retry bool, err error)
	EarlierMessage(ctx context.Context, send room.RoomSend) (m room.Message, found bool, err error)
	VisibleAfter(ctx context.Context, r room.Room, user room.UserID) (room.Seq, error)
	MessagesBySeq(ctx context.Context, r room.Room, seqs []room.Seq) ([]room.Message, error)
	MessagesByID(ctx context.Context, r room.Room, ids []room.MessageID) ([]room.Message, error)
	NewestMessages(ctx context.Context, r room.Room, span room.Span, n int) ([]room.Message, error)
	OldestMessages(ctx context.Context, r room.Room, span room.Span, n int) ([]room.Message, error)
	SearchMessages(ctx context.Context, r room.Room, sender room.UserID, span room.Span, oldest bool, n int) (found []room.Message, next room.Seq, err error)
}

const (
	defaultMessagePage = 50
	maxMessagePage     = 100
	maxMessageLookup   = 100
	// maxSafeInteger is the largest integer that JavaScript represents exactly.
	maxSafeInteger = 1<<53 - 1
)

// sendMessageRequest has the fields of all kinds. room.Content.Check decides which of them a kind
// has, and how long they may be.
type sendMessageRequest struct {
	Kind            room.MessageKind `json:"kind" validate:"required,oneof=text command barrage custom combine image file audio video"`
	Text            string           `json:"text" validate:"maxBytes=32768"`
	Data            []byte           `json:"data" validate:"maxBytes=5120"`
	SubType         *int             `json:"subType" validate:"omitnil,min=0,max=200"`
	Title           string           `json:"title" validate:"maxBytes=256"`
	Summary         string           `json:"summary" validate:"maxBytes=1024"`
	MessageList     []quotedRequest  `json:"messageList" validate:"max=100,dive"`
	MediaID         *string          `json:"mediaID" validate:"omitnil,min=1,max=36"`
	To              []room.UserID    `json:"to" validate:"omitnil,min=1,max=100,unique,dive,userID"`
	Priority        *room.Priority   `json:"priority" validate:"omitnil,oneof=low medium high"`
	ExtendedData    string           `json:"extendedData" validate:"maxBytes=1024"`
	ClientMessageID *string          `json:"clientMessageID" validate:"omitnil,min=1,maxBytes=64"`
}

// quotedRequest is a message that a combined message quotes.
type quotedRequest struct {
	Kind        room.MessageKind `json:"kind" validate:"required,oneof=text command barrage custom combine image file audio video"`
	Text        string           `json:"text" validate:"maxBytes=32768"`
	Data        []byte           `json:"data" validate:"maxBytes=5120"`
	SubType     *int             `json:"subType" validate:"omitnil,min=0,max=200"`
	Title       string           `json:"title" validate:"maxBytes=256"`
	Summary     string           `json:"summary" validate:"maxBytes=1024"`
	MessageList []quotedRequest  `json:"messageList" validate:"max=100,dive"`
	MediaID     *string          `json:"mediaID" validate:"omitnil,min=1,max=36"`
	Sender      *senderRequest   `json:"sender" validate:"required"`
	SentAt      *string          `json:"sentAt" validate:"required,instant"`
}

// draft returns the message as a draft, after a check of the fields that its kind has. Errors:
// invalid_request.
func (m sendMessageRequest) draft() (room.Draft, error) {
	draft := room.Draft{
		Content: room.Content{
			Kind: m.Kind, Text: m.Text, Data: m.Data, SubType: m.SubType, Title: m.Title, Summary: m.Summary,
			MessageList: quotes(m.MessageList), Media: namedMedia(m.MediaID),
		},
		To: m.To, Priority: cmp.Or(given(m.Priority), room.PriorityMedium),
		ExtendedData: m.ExtendedData, ClientMessageID: given(m.ClientMessageID),
	}
	if faults := draft.Check(); len(faults) > 0 {
		return room.Draft{}, invalid(contentFaults(faults)...)
	}
	return draft, nil
}

func quotes(requests []quotedRequest) []room.Quoted {
	if len(requests) == 0 {
		return nil
	}
	quoted := make([]room.Quoted, 0, len(requests))
	for _, q := range requests {
		sentAt, _ := room.ParseInstant(*q.SentAt) // the request was validated
		quoted = append(quoted, room.Quoted{
			Content: room.Content{
				Kind: q.Kind, Text: q.Text, Data: q.Data, SubType: q.SubType, Title: q.Title, Summary: q.Summary,
				MessageList: quotes(q.MessageList), Media: namedMedia(q.MediaID),
			},
			Sender: q.Sender.user(), SentAt: room.InstantOf(sentAt),
		})
	}
	return quoted
}

// contentFaults returns the faults of a content with messages for people.
func contentFaults(faults []room.Fault) []fault {
	described := make([]fault, 0, len(faults))
	for _, f := range faults {
		message := map[string]string{
			"missing":   "is required for this kind",
			"forbidden": "is not a field of this kind",
			"maxBytes":  fmt.Sprintf("must be at most %d bytes for this kind", f.Limit),
			"maxFiles":  fmt.Sprintf("may contain at most %d files if the message is to some members", f.Limit),
			"depth":     fmt.Sprintf("may be nested at most %d levels deep", f.Limit),
		}[f.Rule]
		described = append(described, fault{f.Field, f.Rule, message})
	}
	return described
}

type messageReply struct {
	Message room.Message `json:"message"`
}

// AppendJSON appends the reply, as encoding/json would write it.
func (r messageReply) AppendJSON(b []byte) ([]byte, error) {
	b, err := r.Message.AppendJSON(append(b, `{"message":`...))
	return append(b, '}'), err
}

type messageListReply struct {
	MessageList []room.Message `json:"messageList"`
	NextCursor  room.Seq       `json:"nextCursor,omitempty"`
}

func (a *api) sendRoomMessage(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	var request sendMessageRequest
	if err := a.decode(w, r, &request); err != nil {
		return err
	}
	draft, err := request.draft()
	if err != nil {
		return err
	}
	send := room.RoomSend{Sender: session.Sender(actor(r, session)), Room: id, Draft: draft}
	if err := send.CheckGrants(); err != nil {
		return err
	}
	return a.post(w, r, session.User.ID, &send.Draft, posting{
		post:    func() (room.Message, bool, error) { return a.Store.PostMessage(r.Context(), send) },
		earlier: func() (room.Message, bool, error) { return a.Store.EarlierMessage(r.Context(), send) },
	})
}

// posting contains the store methods for a message, which may be to a room or to a user.
type posting struct {
	// post stores or publishes the message. If it is a retry, post returns the stored message.
	post func() (m room.Message, retry bool, err error)
	// earlier returns the stored message, if this one is a retry.
	earlier func() (m room.Message, found bool, err error)
}

// post resolves the files of a session's message, counts it against the rate limit, and posts it.
func (a *api) post(w http.ResponseWriter, r *http.Request, sender room.UserID, draft *room.Draft, p posting) error {
	if err := a.resolveMedia(r.Context(), sender, draft); err != nil {
		if errors.Is(err, room.ErrMediaNotFound) && draft.ClientMessageID != "" && a.rates.retries.spend(sender) {
			// The file of a recalled message is deleted, but a retry of the message still gets its
			// answer.
			if m, found, err := p.earlier(); err == nil && found && m.Recalled {
				return a.answerMessage(w, r, m)
			}
		}
		return err
	}
	if err := a.takeMessageTokens(w, r, sender, draft); err != nil {
		return a.answerRetry(w, r, sender, draft, p, err)
	}
	m, retry, err := p.post()
	if err != nil {
		return err
	}
	if messages := a.rates.messages; retry && messages.rate.Count > 0 && a.rates.retries.spend(sender) {
		w.Header().Set("Ratelimit", messages.remaining(messages.refund(sender)))
	}
	return a.answerMessage(w, r, m)
}

// answerMessage answers with a message: 201 if it was stored, and 202 if it was only published,
// because the sender cannot know whom it reaches.
func (a *api) answerMessage(w http.ResponseWriter, r *http.Request, m room.Message) error {
	status := http.StatusCreated
	if !m.Kind.Stored() {
		status = http.StatusAccepted
	}
	return a.answer(w, r, status, messageReply{m})
}

// takeMessageTokens counts a message against the rate limits of its sender. Errors:
// too_many_messages, too_much_barrage.
func (a *api) takeMessageTokens(w http.ResponseWriter, r *http.Request, sender room.UserID, draft *room.Draft) error {
	if draft.Kind != room.KindBarrage {
		return a.takeTokens(w, r, a.rates.messages, sender, 1)
	}
	if err := a.takeTokens(w, r, a.rates.barrage, sender, 1); err != nil {
		return err
	}
	return a.takeTokens(w, r, a.rates.barrageBytes, sender, len(draft.Text)+len(draft.Data)+len(draft.ExtendedData))
}

// answerRetry answers a message over the rate limit. A retry of a stored message still gets its
// answer, because it stores nothing; any other message gets tooFast.
func (a *api) answerRetry(
	w http.ResponseWriter, r *http.Request, sender room.UserID, draft *room.Draft, p posting, tooFast error,
) error {
	if draft.ClientMessageID == "" || !draft.Kind.Stored() || !a.rates.retries.spend(sender) {
		return tooFast
	}
	m, found, err := p.earlier()
	switch {
	case err != nil:
		return err
	case !found:
		return tooFast
	}
	w.Header().Del("Retry-After")
	return a.answerMessage(w, r, m)
}

func (a *api) listRoomMessages(w http.ResponseWriter, r *http.Request, session room.Session, id room.RoomID) error {
	asked, err := readMessageQuery(r)
	if err != nil {
		return err
	}
	found, err := a.Store.SessionRoom(r.Context(), session.ID, id)
	if err != nil {
		return err
	}
	if found.Config.History == room.HistoryNone {
		return room.ErrNoHistory
	}
	after, err := a.Store.VisibleAfter(r.Context(), found, session.User.ID)
	if err != nil {
		return err
	}
	return a.answerRoomMessages(w, r, found, asked, after, visibleTo(session.User.ID))
}

func (a *api) adminListMessages(w http.ResponseWriter, r *http.Request, _ room.Actor, id room.RoomID) error {
	asked, err := readMessageQuery(r, "userID")
	if err != nil {
		return err
	}
	found, err := a.Store.Room(r.Context(), id)
	if err != nil {
		return err
	}
	if asked.sender != "" {
		messages, next, err := a.Store.SearchMessages(r.Context(), found, asked.sender, asked.Span, asked.oldest, asked.limit)
		if err != nil {
			return err
		}
		return a.answer(w, r, http.StatusOK, messageListReply{messages, next})
	}
	return a.answerRoomMessages(w, r, found, asked, 0, allMessages)
}

// messageQuery is a request for messages of a room: a page of them, or those that it names.
type messageQuery struct {
	messagePage
	seqs []room.Seq
	ids  []room.MessageID
	// sender selects the messages of a user; "" selects those of all.
	sender room.UserID
}

// readMessageQuery reads a query for messages of a room, which may have further parameters.
func readMessageQuery(r *http.Request, more ...string) (messageQuery, error) {
	q := readQuery(r, append(more, "before", "after", "from", "until", "limit", "seq"+repeatable, "messageID"+repeatable)...)
	asked := messageQuery{
		messagePage: q.messagePage(), seqs: q.seqs("seq"), ids: q.messageIDs("messageID"), sender: q.userID("userID"),
	}
	q.exclusive("seq", "before", "after", "from", "until", "limit", "messageID", "userID")
	q.exclusive("messageID", "before", "after", "from", "until", "limit", "userID")
	q.timeSpan(&asked.Span)
	return asked, q.err()
}

// timeSpan reads the range of instants of a span.
func (q *query) timeSpan(span *room.Span) {
	span.From, span.Until = q.instant("from"), q.instant("until")
	if !span.From.IsZero() && !span.Until.IsZero() && !span.From.Before(span.Until) {
		q.fault("until", "order", "must be later than from")
	}
}

// messageFilter returns those messages that a reader may see. It may reuse the slice.
type messageFilter func([]room.Message) []room.Message

func visibleTo(user room.UserID) messageFilter {
	return func(messages []room.Message) []room.Message { return room.VisibleMessages(messages, user) }
}

func allMessages(messages []room.Message) []room.Message { return messages }

// answerRoomMessages answers with messages of a room that come after a seq and that a reader may see.
func (a *api) answerRoomMessages(
	w http.ResponseWriter, r *http.Request, found room.Room, asked messageQuery, after room.Seq, visible messageFilter,
) error {
	var (
		named []room.Message
		err   error
	)
	switch {
	case len(asked.seqs) > 0:
		named, err = a.Store.MessagesBySeq(r.Context(), found, asked.seqs)
	case len(asked.ids) > 0:
		named, err = a.Store.MessagesByID(r.Context(), found, asked.ids)
	default:
		page := asked.messagePage
		page.After = max(page.After, after)
		return a.answerMessages(w, r, page, visible, func(n int) ([]room.Message, error) {
			if page.oldest {
				return a.Store.OldestMessages(r.Context(), found, page.Span, n)
			}
			return a.Store.NewestMessages(r.Context(), found, page.Span, n)
		})
	}
	if err != nil {
		return err
	}
	named = slices.DeleteFunc(named, func(m room.Message) bool { return m.Seq <= after })
	return a.answer(w, r, http.StatusOK, messageListReply{MessageList: visible(named)})
}

// seqs returns the seqs in a repeatable parameter.
func (q *query) seqs(name string) (seqs []room.Seq) {
	for _, v := range q.lookup(name) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 || n > maxSafeInteger {
			q.fault(name, "range", fmt.Sprintf("must be whole numbers from 1 to %d", int64(maxSafeInteger)))
		}
		seqs = append(seqs, room.Seq(n))
	}
	return seqs
}

// messageIDs returns the IDs in a repeatable parameter.
func (q *query) messageIDs(name string) (ids []room.MessageID) {
	for _, v := range q.lookup(name) {
		if !validUUID(v) {
			q.fault(name, "uuid", "must be UUIDs in lower case")
		}
		ids = append(ids, room.MessageID(v))
	}
	return ids
}

// lookup returns the values of a parameter that names messages, if they are not too many.
func (q *query) lookup(name string) []string {
	values := q.values[name]
	if len(values) > maxMessageLookup {
		q.fault(name, "max", fmt.Sprintf("may appear at most %d times", maxMessageLookup))
		return nil
	}
	return values
}

// messagePage is a request for the newest or the oldest messages of a span of a log.
type messagePage struct {
	room.Span
	oldest bool
	limit  int
}

func (q *query) messagePage() messagePage {
	q.exclusive("before", "after")
	return messagePage{
		Span: room.Span{
			After:  room.Seq(q.integer("after", 0, maxSafeInteger, 0)),
			Before: room.Seq(q.integer("before", 1, maxSafeInteger, math.MaxInt64)),
		},
		oldest: q.has("after"),
		limit:  int(q.integer("limit", 1, maxMessagePage, defaultMessagePage)),
	}
}

// answerMessages answers with those messages of a page that a reader may see, and the cursor of the
// next page. The page is read before the others are removed, so that it costs no more than any
// other.
func (a *api) answerMessages(
	w http.ResponseWriter, r *http.Request, page messagePage, visible messageFilter, read func(n int) ([]room.Message, error),
) error {
	// One more message than the limit shows whether there is a next page.
	messages, err := read(page.limit + 1)
	if err != nil {
		return err
	}
	reply := messageListReply{MessageList: messages}
	switch {
	case len(messages) <= page.limit:
	case page.oldest:
		reply.MessageList = messages[:page.limit]
		reply.NextCursor = messages[page.limit-1].Seq
	default:
		reply.MessageList = messages[1:]
		reply.NextCursor = messages[1].Seq
	}
	reply.MessageList = visible(reply.MessageList)
	return a.answer(w, r, http.StatusOK, reply)
}
