package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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

// statsGroup is the group of a hub's statistics. Each of several hubs that share a log has one below it.
const statsGroup = "$sys/stats"

// top shows the state of a hub, or of the hubs that share its log.
type top struct {
	Server `embed:""`

	Count int `help:"Exit after N updates." short:"n" placeholder:"N"`
	Rows  int `help:"Maximum number of groups and of sessions to show." default:"15"`
}

// Run prints the state whenever the hub publishes its statistics. On a terminal each update replaces the last one.
func (t *top) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, done := context.WithCancelCause(ctx)
	s := &screen{top: t, ctx: ctx, terminal: term.IsTerminal(int(os.Stdout.Fd())), done: done, hubs: map[string]*hubStats{}}
	client := &sse.Client{
		URL: t.url("/v1/groups/", statsGroup+"/#") + "?last=1", OnDisconnect: disconnected, IdleTimeout: idleTimeout, FirstEventTimeout: answerTimeout,
	}
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
	drawn    int
	done     context.CancelCauseFunc
	hubs     map[string]*hubStats // by id; "" for a hub that is alone
}

// hubStats is the newest statistics of a hub.
type hubStats struct {
	statistics
	at time.Time
}

// staleAfter is how long a hub is shown that publishes no statistics.
const staleAfter = 30 * time.Second

// statistics is the part of a message of $sys/stats that is shown.
type statistics struct {
	Version string
	Uptime  float64
	Ready   bool
	Why     string
	Hubs    int
	Rates   struct {
		In, Out, Slow, Held, Evicted, Gaps float64
		InBytes                            float64 `json:"in_bytes"`
		OutBytes                           float64 `json:"out_bytes"`
	}
	Latency struct {
		Publish, Delivery struct{ Count, P50, P99 float64 }
	}
	Now      struct{ Held, Slow int64 }
	Memory   bound
	Disk     *bound
	Streams  int64 `json:"watchbox_streams"`
	Sessions int64 `json:"watchbox_sessions"`
	MQTT     int64 `json:"watchbox_mqtt_connections"`
	Messages int64 `json:"watchbox_messages_held"`
}

// bound is an amount of memory or disk, and its limit.
type bound struct{ Used, Max float64 }

func (b bound) String() string {
	if b.Max == 0 {
		return bytesText(b.Used)
	}
	return bytesText(b.Used) + " of " + bytesText(b.Max)
}

func (s *screen) event(e sse.Event) {
	if e.Type != "message" {
		return
	}
	var m struct {
		Group string
		Time  time.Time
		Msg   statistics
	}
	err := json.Unmarshal(e.Data, &m)
	if err != nil {
		err = fmt.Errorf("cannot read the statistics: %w", err)
	} else {
		s.hubs[strings.TrimPrefix(strings.TrimPrefix(m.Group, statsGroup), "/")] = &hubStats{m.Msg, m.Time}
		maps.DeleteFunc(s.hubs, func(_ string, h *hubStats) bool { return m.Time.Sub(h.at) > staleAfter })
		err = s.draw(m.Time)
	}
	if err != nil {
		s.done(err)
	}
}

func (s *screen) draw(at time.Time) error {
	var groups struct{ Groups []groupRow }
	var sessions struct{ Sessions []sessionRow }
	limit := fmt.Sprint("&limit=", max(1, s.top.Rows))
	err := s.top.read(s.ctx, s.top.url("/v1/groups", "")+"?sort=rate"+limit, &groups, func() bool { return groups.Groups != nil })
	if err == nil {
		err = s.top.read(s.ctx, s.top.url("/v1/sessions", "")+"?sort=lag"+limit, &sessions, func() bool { return sessions.Sessions != nil })
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
	fmt.Fprintf(&b, "%s  %s\n", s.top.URL, at.Local().Format(time.TimeOnly))
	for _, id := range slices.Sorted(maps.Keys(s.hubs)) {
		if id != "" {
			fmt.Fprintf(&b, "hub %s: ", id)
		}
		figures(&b, &s.hubs[id].statistics)
	}
	fmt.Fprintln(&b)
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

// figures prints the state of the whole hub.
func figures(out io.Writer, now *statistics) {
	ready := "ready"
	if !now.Ready {
		ready = "NOT READY: " + now.Why
	}
	fmt.Fprintf(out, "%s, up %s, %s", short(now.Version), time.Duration(now.Uptime)*time.Second, ready)
	if now.Hubs > 1 {
		fmt.Fprintf(out, ", %d hubs", now.Hubs)
	}
	r := &now.Rates
	fmt.Fprintf(out, "\n%.4g messages/s in (%s/s), %.4g/s out (%s/s)", r.In, bytesText(r.InBytes), r.Out, bytesText(r.OutBytes))
	if p := now.Latency.Publish; p.Count > 0 {
		fmt.Fprintf(out, "; publishing takes %.3g ms, p99 %.3g", p.P50, p.P99)
	}
	if d := now.Latency.Delivery; d.Count > 0 {
		fmt.Fprintf(out, "; delivery takes %.3g ms, p99 %.3g", d.P50, d.P99)
	}
	fmt.Fprintf(out, "\n%d streams of %d sessions", now.Streams, now.Sessions)
	if now.MQTT > 0 {
		fmt.Fprintf(out, ", %d by MQTT", now.MQTT)
	}
	fmt.Fprintf(out, "; %d sockets full, %.3g/s slow; %d publishers held, %.3g/s; %.3g evicted/s, %.3g gaps/s\n",
		now.Now.Slow, r.Slow, now.Now.Held, r.Held, r.Evicted, r.Gaps)
	fmt.Fprintf(out, "%d messages in %s of memory", now.Messages, now.Memory)
	if now.Disk != nil {
		fmt.Fprintf(out, ", disk %s", now.Disk)
	}
	fmt.Fprintln(out)
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

// tables prints the busiest groups and the sessions that are furthest behind, in the order of the hub.
func tables(out io.Writer, rows int, groups []groupRow, sessions []sessionRow) {
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
