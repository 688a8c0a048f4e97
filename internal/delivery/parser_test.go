package delivery_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/watchbox-go/watchbox/store"
)

// block is an event of a stream, or an id without one.
type block struct {
	id, event, data string
	comment         bool
	seq             store.Seq // of the last id so far
	epoch           string
	newest          store.Seq // of the log when the block was received
	end             int       // where it ends in the stream
}

// parser reads blocks as they are received. It is independent of package sse and reads only what watchbox sends.
type parser struct {
	pending []byte
	read    int
	blocks  []block
}

func (p *parser) last() block {
	if len(p.blocks) == 0 {
		return block{}
	}
	return p.blocks[len(p.blocks)-1]
}

func (p *parser) feed(b []byte, newest store.Seq) {
	p.pending = append(p.pending, b...)
	for {
		i := bytes.Index(p.pending, []byte("\n\n"))
		if i < 0 {
			return
		}
		p.read += i + 2
		next := p.parse(string(p.pending[:i]))
		next.newest, next.end = newest, p.read
		p.blocks = append(p.blocks, next)
		p.pending = p.pending[i+2:]
	}
}

func (p *parser) parse(text string) block {
	b := block{seq: p.last().seq, epoch: p.last().epoch}
	var data []string
	for line := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == ":":
			b.comment = true
		case name == "id":
			b.id = value
			if id, err := store.ParseID(value); err == nil {
				b.seq, b.epoch = id.Seq, id.Epoch
			}
		case name == "event":
			b.event = value
		case name == "data":
			data = append(data, value)
		case name == "retry":
		default:
			panic("unexpected line in a stream: " + line)
		}
	}
	b.data = strings.Join(data, "\n")
	return b
}

// parse returns the blocks of a stream that ended after these bytes.
func parse(stream []byte) []block {
	var p parser
	p.feed(stream, 0)
	return p.blocks
}

func (b block) String() string {
	return fmt.Sprintf("%s %s%t %.60q at %d, newest %d", b.id, b.event, b.comment, b.data, b.end, b.newest)
}
