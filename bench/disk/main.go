// Command disk measures the cost of storing on disk: durable messages a second of the bare disk, two
// embedded engines and a hub with 1, 16 and 256 publishers, and the times to write, open and read a
// long log.
//
//	go run . engines     the engines that store/disk could use
//	go run . posts       POSTs to a hub, beside the bare disk
//	go run . long        a log of 10 million messages in 64 MiB of memory
//
// It runs the hub and the load generator in ../../bin, where `make bench` puts them.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// settings are common to all measurements.
type settings struct {
	dir      string
	bin      string
	dur      time.Duration
	size     int
	messages int
	memory   string
	slower   time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.dir, "dir", ".", "create the test folder here, on the disk to measure")
	flag.StringVar(&s.bin, "bin", "../../bin", "where watchbox and loadgen are")
	flag.DurationVar(&s.dur, "dur", 3*time.Second, "how long each figure is measured")
	flag.IntVar(&s.size, "size", 200, "bytes of a message")
	flag.DurationVar(&s.slower, "slower", 0, "posts: delay added to each fsync of the hub by strace, to simulate a slower disk")
	flag.IntVar(&s.messages, "messages", 10_000_000, "long: messages of the log")
	flag.StringVar(&s.memory, "memory", "64MiB", "long: the hub's --max-memory")
	flag.Parse()
	what := map[string]func(settings) error{"engines": engines, "posts": posts, "long": long}[flag.Arg(0)]
	if what == nil {
		fmt.Fprintln(os.Stderr, "usage: disk [flags] engines|posts|long")
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
