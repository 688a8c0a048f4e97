package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/watchbox-go/watchbox/store/disk"
)

// storeTools are for folders of serve --data-dir, while no hub uses them.
type storeTools struct {
	Check  storeCheck  `cmd:"" help:"Read all of a store, and say what is wrong with it."`
	Export storeExport `cmd:"" help:"Write all of a store to standard output, as ndjson."`
	Import storeImport `cmd:"" help:"Make a store of what was exported, from standard input."`
}

type storeCheck struct {
	Dir string `arg:"" help:"Folder of the store." type:"path"`
}

// Run prints what there is, and what is wrong with it: then the exit status is 1.
func (c *storeCheck) Run() error {
	wrong := 0
	p := newProgress("checked", nil)
	s, err := disk.Check(c.Dir, func(problem string) {
		wrong++
		p.wipe()
		fmt.Println(problem)
	}, p.stepOf)
	p.wipe()
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%d messages of %d groups, %d bytes, behind %v up to %v\n", s.Messages, s.Groups, s.Bytes, s.Oldest, s.Newest)
	if err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("the store in %s has %d faults", c.Dir, wrong)
	}
	return nil
}

type storeExport struct {
	Dir string `arg:"" help:"Folder of the store." type:"path"`
}

// Run writes it.
func (c *storeExport) Run() error {
	p := newProgress("exported", nil)
	defer p.wipe()
	return disk.Export(c.Dir, os.Stdout, p.stepOf)
}

type storeImport struct {
	Dir   string `arg:"" help:"Folder to make, or one that is empty." type:"path"`
	Moved bool   `help:"Nothing was published to the old store after the export: listeners go on here without a gap."`
}

// Run reads it.
func (c *storeImport) Run() error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	if _, err := in.Peek(1); err == io.EOF {
		return usageError{errors.New("there is nothing on standard input: give it what store export has written")}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	p := newProgress("imported", os.Stdin)
	check := sync.OnceFunc(func() {
		p.wipe()
		p = newProgress("checked", nil)
	})
	err := disk.Import(ctx, c.Dir, interruptible{ctx, in}, disk.ImportOptions{
		Moved:    c.Moved,
		Read:     p.stepOf,
		Verified: func(bytes int, all int64) { check(); p.stepOf(bytes, all) },
	})
	p.wipe()
	if errors.Is(err, context.Canceled) {
		err = errors.New("it was interrupted, and nothing is imported")
	}
	return err
}

// interruptible reads until its context ends.
type interruptible struct {
	ctx context.Context
	in  io.Reader
}

// Read implements io.Reader.
func (r interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() { // it may wait for ever for the other end of a pipe
		n, err := r.in.Read(p)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		return got.n, got.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}
