package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// get prints retained messages.
type get struct {
	Server `embed:""`

	Filter string `arg:"" help:"Group or pattern: + matches one level, a final # any number of levels."`
	JSON   bool   `help:"Print each message as JSON, with id, group, time and all other members." name:"json"`
}

// getPage is the number of messages in one request.
const getPage = 100

// Run prints the value of a group. For a pattern, it prints each group, a tab and its value. It fails if there
// is none.
func (g *get) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	found, q := false, url.Values{"limit": {fmt.Sprint(getPage)}}
	for {
		var page struct {
			Messages []json.RawMessage
			Next     string
		}
		valid := func() bool { return page.Messages != nil }
		if err := g.read(ctx, g.url("/v1/retained/", g.Filter)+"?"+q.Encode(), &page, valid); err != nil {
			return err
		}
		for _, data := range page.Messages {
			found = true
			if err := g.print(data); err != nil {
				return err
			}
		}
		if page.Next == "" {
			break
		}
		q.Set("since", page.Next)
	}
	if !found {
		return fmt.Errorf("nothing is retained for %s", g.Filter)
	}
	return nil
}

func (g *get) print(data []byte) error {
	if g.JSON {
		return printLine(data)
	}
	m, err := parseMessage(data)
	if err != nil {
		return err
	}
	if strings.ContainsAny(g.Filter, "+#") {
		return printLine([]byte(m.Group + "\t" + string(m.payload)))
	}
	return printLine(m.payload)
}
