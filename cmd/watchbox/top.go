package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/watchbox-go/watchbox/sse"
)

// top shows the state of a hub.
type top struct {
	Server `embed:""`

	Count int `help:"Exit after N updates." short:"n" placeholder:"N"`
	Rows  int `help:"Maximum number of groups and of sessions to show." default:"15"`
}

// Run prints the state once a second. On a terminal each update replaces the last one.
func (t *top) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, done := context.WithCancelCause(ctx)
	s := &screen{top: t, ctx: ctx, terminal: term.IsTerminal(int(os.Stdout.Fd())), done: done}
	client := &sse.Client{URL: t.url("/v1/groups/", "$sys/stats"), OnDisconnect: disconnected, IdleTimeout: idleTimeout, FirstEventTimeout: answerTimeout}
	client.OnEvent = func(e sse.Event) {
		if e.Type == "session" {
			client.IdleTimeout = silence(e)
		}
		s.event(e)
	}
	return t.listen(ctx, client)
}

// screen draws an update on each message of $sys/stats.
type screen struct {
	top      *top
	ctx      context.Context
	terminal bool
	before   figures
	at       time.Time
	drawn    int
	done     context.CancelCauseFunc
}

type figures map[string]float64

func (s *screen) event(e sse.Event) {
	if e.Type != "message" {
		return
	}
	var m struct {
		Time time.Time
		Msg  figures
	}
	if err := json.Unmarshal(e.Data, &m); err != nil {
		s.done(fmt.Errorf("cannot read the statistics: %w", err))
		return
	}
	if s.before != nil {
		if err := s.draw(m.Msg, m.Time); err != nil {
			s.done(err)
			return
		}
	}
	s.before, s.at = m.Msg, m.Time
}

func (s *screen) draw(now figures, at time.Time) error {
	var groups struct{ Groups []groupRow }
	var sessions struct{ Sessions []sessionRow }
	err := s.top.read(s.ctx, s.top.url("/v1/groups", ""), &groups, func() bool { return groups.Groups != nil })
	if err == nil {
		err = s.top.read(s.ctx, s.top.url("/v1/sessions", ""), &sessions, func() bool { return sessions.Sessions != nil })
	}
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case final(err, true):
		return err
	case err != nil: // temporary: the stream reconnects
		report(err)
		return nil
	}
	var b bytes.Buffer
	if s.terminal {
		b.WriteString("\x1b[H\x1b[2J")
	}
	rate := func(name string) float64 {
		return max(0, now[name]-s.before[name]) / max(at.Sub(s.at).Seconds(), 0.1)
	}
	fmt.Fprintf(&b, "%s  %s\n%.0f messages/s in, %.0f/s out; %.0f streams of %.0f sessions; %.0f times slow, %.0f held; history %s in %.0f messages\n\n",
		s.top.URL, at.Local().Format(time.TimeOnly), rate("watchbox_messages_published_total"), rate("watchbox_messages_delivered_total"),
		now["watchbox_streams"], now["watchbox_sessions"], rate("watchbox_slow_total"), rate("watchbox_held_total"),
		bytesText(now["watchbox_history_memory_bytes"]), now["watchbox_messages_held"])
	rows, width := s.top.Rows, 0
	if s.terminal {
		rows, width = fit(rows, bytes.Count(b.Bytes(), []byte("\n")))
	}
	tables(&b, rows, groups.Groups, sessions.Sessions)
	if _, err := os.Stdout.Write(cut(b.Bytes(), width)); err != nil {
		return err
	}
	if s.drawn++; s.drawn == s.top.Count {
		return errDone
	}
	return nil
}

// fit returns the number of rows of each of the two tables, so that they fit into the terminal below the lines
// above, and the terminal's width.
func fit(most, above int) (rows, width int) {
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return most, 0
	}
	const titles = 4 // table headers, the blank line between them and the last line, where the cursor is
	return min(most, max(1, (height-above-titles)/2)), width
}

// cut truncates lines to a width; 0 means no limit.
func cut(text []byte, width int) []byte {
	if width == 0 {
		return text
	}
	var out []byte
	for line := range bytes.Lines(text) {
		runes := []rune(string(bytes.TrimSuffix(line, []byte("\n"))))
		out = append(append(out, string(runes[:min(len(runes), width)])...), '\n')
	}
	return out
}

// groupRow and sessionRow are the members of the API's answers that the tables show.
type groupRow struct {
	Group       string
	Messages    int64
	Bytes, Rate float64
	Subscribers int
}

type sessionRow struct {
	UID, State, Address string
	Filters             []string
	Streams             int
	Lag, Sent           struct{ Messages, Bytes float64 }
}

// tables prints the busiest groups and the sessions that are furthest behind.
func tables(out io.Writer, rows int, groups []groupRow, sessions []sessionRow) {
	slices.SortFunc(groups, func(a, b groupRow) int { return cmp.Or(-cmp.Compare(a.Rate, b.Rate), cmp.Compare(a.Group, b.Group)) })
	slices.SortFunc(sessions, func(a, b sessionRow) int {
		return cmp.Or(-cmp.Compare(a.Lag.Bytes, b.Lag.Bytes), -cmp.Compare(a.Sent.Bytes, b.Sent.Bytes), cmp.Compare(a.UID, b.UID))
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tRATE/S\tLISTENERS\tMESSAGES\tBYTES")
	for _, g := range groups[:min(len(groups), rows)] {
		fmt.Fprintf(w, "%s\t%.1f\t%d\t%d\t%s\n", short(g.Group), g.Rate, g.Subscribers, g.Messages, bytesText(g.Bytes))
	}
	_ = w.Flush() // a Buffer returns no errors
	fmt.Fprintln(w, "\nSESSION\tBEHIND\tSENT\tSTREAMS\tSTATE\tADDRESS\tFILTERS")
	for _, x := range sessions[:min(len(sessions), rows)] {
		fmt.Fprintf(w, "%.8s\t%s\t%s\t%d\t%s\t%s\t%s\n", x.UID, bytesText(x.Lag.Bytes), bytesText(x.Sent.Bytes),
			x.Streams, x.State, x.Address, short(strings.Join(x.Filters, " ")))
	}
	_ = w.Flush()
}

// short truncates long text and replaces control characters, which a terminal would interpret.
func short(s string) string {
	const most = 40
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

func bytesText(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") + " " + unit
		}
		n /= 1024
	}
	return fmt.Sprintf("%.1f TiB", n)
}
