package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

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
	s, err := disk.Check(c.Dir, func(problem string) {
		wrong++
		fmt.Println(problem)
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d messages of %d groups, %d bytes, behind %v up to %v\n", s.Messages, s.Groups, s.Bytes, s.Oldest, s.Newest)
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
	return disk.Export(c.Dir, os.Stdout, p.step)
}

type storeImport struct {
	Dir string `arg:"" help:"Folder to make." type:"path"`
}

// Run reads it.
func (c *storeImport) Run() error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	if _, err := in.Peek(1); err != nil {
		return usageError{errors.New("there is nothing on standard input: give it what store export has written")}
	}
	p := newProgress("imported", os.Stdin)
	defer p.wipe()
	return disk.Import(c.Dir, in, p.step)
}
