//go:build !windows

// Command natsserver runs nats-servers with JetStream in a folder. It prints their URLs, separated by commas, in one line
// when they are ready, and ends them when it is interrupted or its stdin ends.
//
//	natsserver [-n 3] [DIR]
//
// Without DIR it uses a temporary folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "natsserver:", err)
		os.Exit(1)
	}
}

func run() error {
	n := flag.Int("n", 1, "number of servers: 1 or 3")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, end, err := folder(flag.Arg(0))
	if err != nil {
		return err
	}
	defer end()
	all, err := servers.Start(dir, *n)
	if err != nil {
		return err
	}
	defer all.Kill()
	fmt.Println(all.URL())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	<-ctx.Done()
	return nil
}

// folder returns the folder for the servers' files and a function that removes it if it is a temporary one.
func folder(name string) (dir string, end func(), err error) {
	if name != "" {
		return name, func() {}, nil
	}
	dir, err = servers.TempDir()
	return dir, func() { _ = os.RemoveAll(dir) }, err
}
