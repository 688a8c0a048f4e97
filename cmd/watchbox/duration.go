package main

import (
	"fmt"
	"reflect"
	"time"

	"github.com/alecthomas/kong"

	"github.com/watchbox-go/watchbox/internal/duration"
)

// durations makes flags of type time.Duration accept the same form as the HTTP API, with d and w.
var durations = kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration))

func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	var s string
	if err := ctx.Scan.PopValueInto("duration", &s); err != nil {
		return err
	}
	d, err := duration.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 15s, 2h30m or 7d", s)
	}
	target.SetInt(int64(d))
	return nil
}
