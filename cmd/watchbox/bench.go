package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// bench measures hubs.
type bench struct {
	Hub         hubURL `arg:"" optional:"" help:"Running hub to measure: a URL, HOST:PORT, or unix:/PATH. Without it, bench starts a hub of its own for each profile and store."`
	Credentials `embed:""`

	Profile   []string      `help:"Profiles of the hubs that bench starts." enum:"memory,balanced,speed" default:"memory,balanced,speed" env:"-"`
	Store     []string      `help:"Stores of the hubs that bench starts. The disk is that of the folder for temporary files." enum:"memory,disk" default:"memory,disk" env:"-"`
	Listeners int           `help:"How many listeners to open, at most 50000. They need as many open files, in this process and in the hub." default:"5000" placeholder:"N" env:"-"`
	Size      size          `help:"Size of the messages, at most 64KiB." default:"100B" env:"-"`
	Time      time.Duration `help:"How long each of the three loads lasts, from 100ms to 1m." default:"2s" env:"-"`
	JSON      bool          `help:"Print each hub's figures as a line of JSON instead of a table." name:"json" env:"-"`
}

// Limits of the loads.
const (
	mostListeners = 50_000
	leastSize     = 20 // a message holds the time of its POST
	mostSize      = 64 << 10
	leastTime     = 100 * time.Millisecond
	mostTime      = time.Minute
)

// benchFigures are the figures of a hub. Times are in seconds, and 0 where nothing was measured.
type benchFigures struct {
	Hub            string  `json:"hub,omitempty"`
	Profile        string  `json:"profile,omitempty"`
	Store          string  `json:"store,omitempty"`
	Listeners      int     `json:"listeners"`
	Size           int64   `json:"message_size"`
	ListenerBytes  float64 `json:"bytes_per_listener,omitempty"`
	MessageBytes   float64 `json:"bytes_per_message,omitempty"`
	Published      float64 `json:"published_per_second"`
	PublishMedian  float64 `json:"publish_seconds_p50"`
	PublishSlow    float64 `json:"publish_seconds_p99"`
	Delivered      float64 `json:"delivered_per_second"`
	DeliveryMedian float64 `json:"delivery_seconds_p50"`
	DeliverySlow   float64 `json:"delivery_seconds_p99"`
}

// Run measures and prints a table.
func (b *bench) Run() error {
	switch {
	case b.Listeners < 1 || b.Listeners > mostListeners:
		return usageError{fmt.Errorf("--listeners must be from 1 to %d", mostListeners)}
	case b.Size < leastSize || b.Size > mostSize:
		return usageError{fmt.Errorf("--size must be from %dB to 64KiB", leastSize)}
	case b.Time < leastTime || b.Time > mostTime:
		return usageError{fmt.Errorf("--time must be from %v to %v", leastTime, mostTime)}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	all, err := b.measureAll(ctx)
	if err != nil {
		return err
	}
	if b.JSON {
		for i := range all {
			line, _ := json.Marshal(&all[i]) // it has only numbers and text
			if err := printLine(line); err != nil {
				return err
			}
		}
		return nil
	}
	return b.table(os.Stdout, all)
}

// measureAll measures the running hub, or one after the other those that it starts.
func (b *bench) measureAll(ctx context.Context) (all []benchFigures, err error) {
	bar := newProgress("", nil)
	defer bar.wipe()
	if b.Hub != "" {
		f := benchFigures{Hub: string(b.Hub)}
		err := b.measure(ctx, b.Hub, &f, func(part float64, what string) { bar.at(part, what) })
		return []benchFigures{f}, err
	}
	hubs := len(b.Profile) * len(b.Store)
	for _, profile := range b.Profile {
		for _, store := range b.Store {
			f := benchFigures{Profile: profile, Store: store}
			err := b.withHub(ctx, profile, store, func(hub hubURL) error {
				return b.measure(ctx, hub, &f, func(part float64, what string) {
					bar.at((float64(len(all))+part)/float64(hubs), fmt.Sprintf("%s, %s: %s", profile, store, what))
				})
			})
			if err != nil {
				return nil, fmt.Errorf("profile %s, store %s: %w", profile, store, err)
			}
			all = append(all, f)
		}
	}
	return all, nil
}

// measure applies the loads to a hub, one after the other.
func (b *bench) measure(ctx context.Context, hub hubURL, f *benchFigures, at func(float64, string)) error {
	f.Listeners, f.Size = b.Listeners, int64(b.Size)
	l := newLoad(b, hub)
	defer l.close()
	steps := []struct {
		name string
		run  func(context.Context, *benchFigures) error
	}{
		{"warming up", l.warmUp}, {"opening listeners", l.open}, {"publishing", l.publish},
		{"delivering to all", l.deliver}, {"delivering one by one", l.deliverSingly},
	}
	for i, step := range steps {
		at(float64(i)/float64(len(steps)), step.name)
		if err := step.run(ctx, f); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// table prints a row for each hub.
func (b *bench) table(out io.Writer, all []benchFigures) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROFILE\tSTORE\tA LISTENER\tA MESSAGE\tPUBLISHED/S\tPOST P50\tP99\tDELIVERED/S\tDELIVERY P50\tP99")
	for _, f := range all {
		columns := []string{
			cmp.Or(f.Profile, "-"), cmp.Or(f.Store, "-"), costText(f.ListenerBytes), costText(f.MessageBytes),
			fmt.Sprintf("%.0f", f.Published), secondsText(f.PublishMedian), secondsText(f.PublishSlow),
			fmt.Sprintf("%.0f", f.Delivered), secondsText(f.DeliveryMedian), secondsText(f.DeliverySlow),
		}
		fmt.Fprintln(w, strings.Join(columns, "\t"))
	}
	fmt.Fprintf(w, "\nMessages of %s; %d listeners. The clients of the loads used the same processors as the hub.\n", bytesText(float64(b.Size)), b.Listeners)
	return w.Flush()
}

// costText returns a number of bytes, or "-" if it is unknown.
func costText(n float64) string {
	if n <= 0 {
		return "-"
	}
	return bytesText(n)
}

func secondsText(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
