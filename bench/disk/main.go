// Command disk measures what the disk costs: how many durable messages a second the bare disk,
// two embedded engines and a hub take from 1, 16 and 256 committers at once.
//
//	go run . engines              the engines that store/disk could stand on
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// settings are what all measurements share.
type settings struct {
	dir  string
	dur  time.Duration
	size int
}

func main() {
	var s settings
	flag.StringVar(&s.dir, "dir", ".", "measure in a new folder here: on the disk in question")
	flag.DurationVar(&s.dur, "dur", 3*time.Second, "how long each figure is measured")
	flag.IntVar(&s.size, "size", 200, "bytes of a message")
	flag.Parse()
	what := map[string]func(settings) error{"engines": engines}[flag.Arg(0)]
	if what == nil {
		fmt.Fprintln(os.Stderr, "usage: disk [flags] engines")
		os.Exit(2)
	}
	dir, err := os.MkdirTemp(s.dir, "bench-disk-")
	if err == nil {
		s.dir = dir
		err = what(s)
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "disk:", err)
		os.Exit(1)
	}
}
