package jetstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// Headers of the servers.
const (
	headerID       = "Nats-Msg-Id"
	headerTTL      = "Nats-TTL"
	headerRollup   = "Nats-Rollup"
	headerGuard    = "Nats-Expected-Last-Subject-Sequence"
	headerBatch    = "Nats-Batch-Id"
	headerNumber   = "Nats-Batch-Sequence"
	headerCommit   = "Nats-Batch-Commit"
	headerStatus   = "Status"
	noResponders   = "503"
	ttlOfRemovals  = time.Hour // how long the stream keeps the removal of a note
	ttlAfterExpiry = time.Hour // how long it keeps an expired message, so that no hub finds a hole
)

// encode makes the messages of a publication.
func (l *Log) encode(p *publication) {
	p.msgs, p.bodies = p.msgs[:0], p.bodies[:0]
	now := time.Now()
	var ends []int
	for i := range p.records {
		p.records[i].by = appendID{l.self, p.number}
		p.bodies = p.records[i].encode(p.bodies)
		ends = append(ends, len(p.bodies))
	}
	from := 0
	for i := range p.records {
		r := &p.records[i]
		m := &nats.Msg{Header: nats.Header{}, Data: p.bodies[from:ends[i]]}
		from = ends[i]
		switch {
		case r.is(isNote):
			m.Subject = l.subjects.note(r.key)
			m.Header[headerRollup] = []string{"sub"}
			m.Header[headerGuard] = []string{strconv.FormatUint(uint64(r.prev), 10)}
			if r.is(isRemoval) {
				m.Header[headerTTL] = []string{seconds(ttlOfRemovals)}
			}
		default:
			m.Subject = l.subjects.message(r.entry.Group, kindOf(&r.entry))
			if !r.entry.Expires.IsZero() {
				m.Header[headerTTL] = []string{seconds(max(r.entry.Expires.Sub(now), 0) + ttlAfterExpiry)}
			}
		}
		p.msgs = append(p.msgs, m)
	}
	p.msgs[0].Header[headerID] = []string{l.idOf(p)}
}

// idOf returns the id by which the servers drop repetitions of an append. Appends with the same guarded brief
// note have the same id, so that one of them is stored, by whichever hub.
func (l *Log) idOf(p *publication) string {
	if key := p.onceKey(); key != "" {
		return "once-" + key
	}
	return strconv.FormatUint(l.self, 36) + "-" + strconv.FormatUint(p.number, 36)
}

// onceKey returns the key of the append's guarded brief note, or "".
func (p *publication) onceKey() string {
	for _, n := range p.records[0].brief {
		if n.Guarded {
			return n.Key
		}
	}
	return ""
}

// seconds formats a TTL, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// errNotSent is returned by send if no byte was sent.
var errNotSent = errors.New("there is no connection to NATS, or it is not known yet which stream the servers have")

// send publishes the messages once. Notes that tell positions are not sent to a stream that the tail does not follow: it may be another one,
// such as an older backup, where the positions mean something else.
func (l *Log) send(p *publication, attempt int) error {
	switch {
	case l.offline.Load(), p.epoch != "" && !l.tail.following():
		return errNotSent
	case p.epoch != "" && p.epoch != l.epoch():
		return errRenewed
	}
	last := len(p.msgs) - 1
	reply := l.pending.inbox + strconv.FormatUint(p.number, 36)
	for i, m := range p.msgs {
		if i == 0 || i == last {
			m.Reply = reply
		}
		if last > 0 {
			m.Header[headerBatch] = []string{reply[len(reply)-min(len(reply), 40):] + "-" + strconv.Itoa(attempt)}
			m.Header[headerNumber] = []string{strconv.Itoa(i + 1)}
			if i == last {
				m.Header[headerCommit] = []string{"1"}
			}
		}
	}
	if err := l.checkSizes(p); err != nil {
		return err
	}
	for i, m := range p.msgs {
		err := l.nc.PublishMsg(m)
		switch {
		case err == nil:
		case errors.Is(err, nats.ErrConnectionClosed):
			return store.ErrClosed
		case i == last && last > 0, errors.Is(err, nats.ErrReconnectBufExceeded):
			return errNotSent
		default:
			return fmt.Errorf("publishing to NATS: %w", err)
		}
	}
	p.sent++
	return nil
}

// checkSizes returns store.ErrTooLarge if the servers would refuse one of the messages. Nothing is sent then: the servers
// would keep the other messages of a batch for a while.
func (l *Log) checkSizes(p *publication) error {
	most, setting := l.nc.MaxPayload(), "max_payload of the NATS servers"
	if m := l.tail.maxMsgSize.Load(); m > 0 && m < most {
		most, setting = m, "max_msg_size of the stream"
	}
	for _, m := range p.msgs {
		if n := int64(m.Size() - len(m.Subject) - len(m.Reply)); n > most {
			return fmt.Errorf("%w; a message takes %d bytes with its headers, and %s is %d", store.ErrTooLarge, n, setting, most)
		}
	}
	return nil
}

// pending has the publications that are not finished, by number.
type pending struct {
	inbox string // prefix of the subjects for answers

	mu        sync.Mutex // guards the fields below
	list      map[uint64]*publication
	next      uint64
	unsettled unsettled
}

// answer is what a publication learns of itself. Without an error, it is placed or a server has acknowledged it.
type answer struct {
	duplicate bool // an append with this id was stored before
	err       error
}

// Errors of answers.
var (
	errBusy       = errors.New("the servers cannot take it at the moment")
	errIncomplete = fmt.Errorf("%w: a message of the batch is missing", errBusy)
)

// changedError says that a note has another newest version than was expected.
type changedError struct {
	unknown bool      // the servers do not say which version, because it is not stored yet
	seq     store.Seq // of a newest version; 0: there is none
}

func (e *changedError) Error() string {
	return fmt.Sprintf("the newest version of the note is %d", e.seq)
}

func (t *pending) init() {
	t.list = map[uint64]*publication{}
	t.inbox = nats.NewInbox() + "."
}

func (t *pending) add(records []record, o appendOptions) *publication {
	p := &publication{records: records, epoch: o.epoch, stored: o.stored, answers: make(chan answer, 4)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	p.number = t.next
	t.list[p.number] = p
	return p
}

// end is called when an append returns, with its error. It reports whether the append is placed in spite of it.
func (t *pending) end(p *publication, err error) (placed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.list, p.number)
	if placed = p.placed.Load(); !placed && p.stored != nil && errors.Is(err, store.ErrUnknownOutcome) {
		t.unsettled.add(later{p.number, len(p.bodies), time.Now(), p.stored})
	}
	return placed
}

func (t *pending) get(number uint64) *publication {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list[number]
}

// placed tells a publication that it can be read. If its append has returned and did not know that, it tells its caller.
func (t *pending) placed(number uint64, first store.ID) {
	t.mu.Lock()
	stored := t.unsettled.take(number)
	if p := t.list[number]; p != nil {
		p.first = first
		p.placed.Store(true)
		p.tell(answer{})
	}
	t.mu.Unlock()
	if stored != nil {
		stored(first)
	}
}

// sweep forgets appends whose outcome has been unknown for too long.
func (t *pending) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsettled.sweep(now)
}

// renew forgets all appends whose outcome is unknown: the stream is another one.
func (t *pending) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsettled = unsettled{}
}

// tell passes an answer on. If there are unread ones, the oldest gives way.
func (p *publication) tell(a answer) {
	for {
		select {
		case p.answers <- a:
			return
		default:
		}
		select {
		case <-p.answers:
		default:
		}
	}
}

// listenForReplies receives the acknowledgements of the servers.
func (l *Log) listenForReplies() error {
	sub, err := l.nc.Subscribe(l.pending.inbox+"*", func(m *nats.Msg) {
		number, err := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 36, 64)
		if err != nil {
			return
		}
		if p := l.pending.get(number); p != nil {
			l.answered(p, m)
		}
	})
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1)
}

// answered handles the answer of a server.
func (l *Log) answered(p *publication, m *nats.Msg) {
	switch {
	case len(m.Data) > 0 && !strings.Contains(string(m.Data), `"error"`):
		l.acknowledged(p, m)
	case len(m.Data) > 0:
		a, known := refusal(m.Data)
		switch {
		case !known:
			l.opts.Logger.Error("NATS refuses a message", "error", a.err)
		case errors.Is(a.err, errIncomplete), errors.Is(a.err, store.ErrTooLarge):
			l.tail.restart() // the stream may have another max_msg_size now
		}
		p.tell(a)
	case m.Header.Get(headerStatus) == noResponders:
		p.tell(answer{err: errBusy})
	}
	// An empty answer says that a batch has begun.
}

// acknowledged handles the acknowledgement of an append.
func (l *Log) acknowledged(p *publication, m *nats.Msg) {
	var ack struct {
		Seq       store.Seq `json:"seq"`
		Duplicate bool      `json:"duplicate"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil || ack.Duplicate {
		p.tell(answer{duplicate: ack.Duplicate})
		return
	}
	p.acked.Store(true)
	n, _, err := m.Sub.Pending() // this one still counts
	l.tail.acknowledged(p.single.Load(), ack.Seq, err == nil && n > 1)
}

// wrongSequenceUnknown is the code of a wrong guard if the servers do not say the sequence.
const wrongSequenceUnknown = 10164

// refusal returns the error of an answer, and whether it is one that occurs in normal operation.
func refusal(data []byte) (a answer, known bool) {
	var body struct {
		Error struct {
			Code        jetstream.ErrorCode `json:"err_code"`
			Description string              `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return answer{err: err}, false
	}
	switch e := body.Error; e.Code {
	case 10201: // the batch contains an id that is known: it was stored before
		return answer{duplicate: true}, true
	case jetstream.JSErrCodeStreamWrongLastSequence, wrongSequenceUnknown: // wrong last sequence: 5
		at := e.Description[strings.LastIndexByte(e.Description, ' ')+1:]
		seq, err := strconv.ParseUint(at, 10, 64)
		return answer{err: &changedError{err != nil, store.Seq(seq)}}, true
	case 10077, 10047, 10023, 10002: // see fullCodes
		return answer{err: &fullError{e.Description}}, true
	case 10176:
		return answer{err: errIncomplete}, true
	case 10158, 10167, 10210: // its id is being stored, too many requests, too many batches
		return answer{err: errBusy}, true
	case 10054, 10199: // a message, or the batch
		return answer{err: store.ErrTooLarge}, true
	default:
		return answer{err: fmt.Errorf("NATS refuses the message: %s (%d)", e.Description, e.Code)}, false
	}
}
