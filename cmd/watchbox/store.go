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

// storeTools work on the folder of serve --data-dir while no hub uses it.
type storeTools struct {
	Check  storeCheck  `cmd:"" help:"Read a whole store and print its errors."`
	Export storeExport `cmd:"" help:"Write a whole store to standard output as ndjson."`
	Import storeImport `cmd:"" help:"Create a store from an export on standard input."`
}

type storeCheck struct {
	Dir string `arg:"" help:"Folder of the store." type:"path"`
}

// Run prints errors and a summary. If there are errors, the exit status is 1.
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
	_, err = fmt.Printf("%d messages of %d groups, %d bytes, after %v up to %v\n", s.Messages, s.Groups, s.Bytes, s.Oldest, s.Newest)
	if err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("the store in %s has %d errors", c.Dir, wrong)
	}
	return nil
}

type storeExport struct {
	Dir string `arg:"" help:"Folder of the store." type:"path"`
}

// Run writes the export.
func (c *storeExport) Run() error {
	p := newProgress("exported", nil)
	defer p.wipe()
	return disk.Export(c.Dir, os.Stdout, p.stepOf)
}

type storeImport struct {
	Dir   string `arg:"" help:"New or empty folder for the store." type:"path"`
	Moved bool   `help:"State that nothing was published to the old store after the export. Listeners then resume without a gap."`
}

// Run reads the export.
func (c *storeImport) Run() error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	if _, err := in.Peek(1); err == io.EOF {
		return usageError{errors.New("standard input is empty: pipe the output of store export into it")}
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
		err = errors.New("interrupted: nothing was imported")
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
	go func() { // a read from a pipe may block forever
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
