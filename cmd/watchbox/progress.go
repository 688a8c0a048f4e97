package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress shows the progress of a long operation on one line of a terminal. A nil progress shows
// nothing.
type progress struct {
	out   io.Writer
	done  string // the verb for each message, such as "sent"
	size  int64  // of the input in bytes; 0 if unknown
	begun time.Time
	shown time.Time

	bytes, messages int64
}

// pictureEvery is the interval at which the line is drawn. Shorter operations draw none.
const pictureEvery = 200 * time.Millisecond

// newProgress returns nil if standard error is not a terminal, or if the input is one.
func newProgress(done string, in *os.File) *progress {
	if !term.IsTerminal(int(os.Stderr.Fd())) || in != nil && term.IsTerminal(int(in.Fd())) {
		return nil
	}
	now := time.Now()
	p := &progress{out: os.Stderr, done: done, begun: now, shown: now}
	if in == nil {
		return p
	}
	if info, err := in.Stat(); err == nil && info.Mode().IsRegular() {
		p.size = info.Size()
	}
	return p
}

// step counts one message that used this many bytes of the input.
func (p *progress) step(bytes int) {
	if p == nil {
		return
	}
	p.bytes += int64(bytes)
	p.messages++
	if now := time.Now(); now.Sub(p.shown) >= pictureEvery {
		p.shown = now
		_, _ = fmt.Fprint(p.out, "\r\x1b[K"+p.picture(now))
	}
}

// stepOf is step for an input of all bytes; all is 0 if the size is unknown.
func (p *progress) stepOf(bytes int, all int64) {
	if p != nil && all > 0 {
		p.size = all
	}
	p.step(bytes)
}

// wipe clears the line if one was drawn.
func (p *progress) wipe() {
	if p != nil && p.shown != p.begun {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// picture returns the line, 70 columns at most.
func (p *progress) picture(now time.Time) string {
	rate := float64(p.messages) / max(now.Sub(p.begun).Seconds(), 0.001)
	text := fmt.Sprintf("%d %s, %.0f/s", p.messages, p.done, rate)
	if p.size == 0 {
		return text
	}
	return barText(float64(p.bytes)/float64(p.size), text)
}

// barText returns a bar of which a part is done. A part above 1, of a file that has grown since, counts as 1.
func barText(part float64, text string) string {
	const width = 30
	part = min(part, 1)
	full := int(part * width)
	return fmt.Sprintf("[%s%s] %3.0f%%  %s", strings.Repeat("#", full), strings.Repeat(".", width-full), part*100, text)
}

// at shows that a part is done, and what is done now.
func (p *progress) at(part float64, text string) {
	if p != nil {
		p.shown = time.Now()
		_, _ = fmt.Fprint(p.out, "\r\x1b[K"+barText(part, text))
	}
}
