//go:build !windows

// Command cluster runs three hubs that share a log on three NATS servers, all on this machine. Run it with
//
//	cd examples/cluster && go run .
//
// It prints what to try. docs/CLUSTER.md describes a cluster on several machines.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run runs the cluster until ctx is done.
func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "watchbox-cluster-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Fprintln(out, "building nats-server and watchbox; the first time takes a minute")
	program, err := hubs.Build(dir)
	if err != nil {
		return err
	}
	nats, err := servers.Start(dir, 3)
	if err != nil {
		return err
	}
	defer nats.Kill()
	var list []*hubs.Hub
	defer func() {
		for _, h := range list {
			h.Kill()
		}
	}()
	for _, name := range []string{"h1", "h2", "h3"} {
		h, err := hubs.Start(program, dir, name, "--nats", nats.URL())
		if err != nil {
			return err
		}
		list = append(list, h)
	}
	for _, h := range list {
		if err := h.Ready(); err != nil {
			return err
		}
	}
	guide(out, nats, list)
	var keeping sync.WaitGroup
	for _, s := range nats {
		keeping.Go(func() { keep(ctx, out, s.Name, s) })
	}
	for _, h := range list {
		keeping.Go(func() { keep(ctx, out, h.Name, h) })
	}
	keeping.Wait()
	return nil
}

// pause is how long a process stays away that somebody killed.
const pause = 10 * time.Second

// keep starts a process again when it has ended, until ctx is done.
func keep(ctx context.Context, out io.Writer, name string, p interface {
	Done() <-chan struct{}
	Restart() error
}) {
	for {
		select {
		case <-p.Done():
		case <-ctx.Done():
			return
		}
		fmt.Fprintf(out, "%s has ended; it starts again in %v\n", name, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if err := p.Restart(); err != nil {
			fmt.Fprintf(out, "%s: %v\n", name, err)
			return
		}
		fmt.Fprintf(out, "%s is back\n", name)
	}
}

func guide(out io.Writer, nats servers.Servers, list []*hubs.Hub) {
	fmt.Fprint(out, "\nNATS servers:\n")
	for _, s := range nats {
		fmt.Fprintf(out, "  %s  %s  process %d\n", s.Name, s.URL, s.Pid())
	}
	fmt.Fprint(out, "hubs, each with a dashboard:\n")
	for _, h := range list {
		fmt.Fprintf(out, "  %s  %s  process %d\n", h.Name, h.URL, h.Pid())
	}
	fmt.Fprintf(out, `
Try this in two other terminals:

  # subscribe at one hub, publish at another
  curl -N %[1]s/v1/groups/demo
  curl -d hello %[2]s/v1/groups/demo

  # kill the hub of the subscriber, publish, and continue at the third hub: put the last id you saw for ID
  kill -9 %[4]d
  curl -d 'while you were away' %[2]s/v1/groups/demo
  curl -N -H 'Last-Event-ID: ID' %[3]s/v1/groups/demo

  # who is connected, to whichever hub
  curl %[2]s/v1/sessions

  # kill a NATS server: publishing pauses for a few seconds at most, and nothing is lost
  kill -9 %[5]d

Ctrl-C ends the cluster and removes its files.
`, list[0].URL, list[1].URL, list[2].URL, list[0].Pid(), nats[0].Pid())
}
