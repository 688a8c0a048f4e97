package jetstream

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
)

// The servers do not answer a request that the account may not make. So the permissions are checked when the log is
// opened: a hub would fail later otherwise, one request after the other.

// deniedError says that the account lacks a permission.
type deniedError struct{ action, subject string }

func (e *deniedError) Error() string {
	return fmt.Sprintf("the NATS account may not %s %s: give it all permissions that docs/CLUSTER.md lists", e.action, e.subject)
}

// violation finds the action and the subject in the error of a server.
var violation = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]*)"`)

// denialOf returns the missing permission that an error reports, or nil.
func denialOf(err error) error {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	found := violation.FindStringSubmatch(err.Error())
	switch {
	case found == nil:
		return err
	case found[1] == "publish" || found[1] == "Publish":
		return &deniedError{"publish to", found[2]}
	}
	return &deniedError{"subscribe to", found[2]}
}

// checkPermissions returns an error if a permission is missing. It sends messages to all subjects that the hub publishes
// to. The servers refuse those that would have an effect.
func (l *Log) checkPermissions(ctx context.Context) error {
	stream := l.opts.Stream
	refused := nats.Header{"Nats-Expected-Stream": {"-"}} // the stream has another name
	list := []*nats.Msg{
		{Subject: l.subjects.note("permission"), Header: refused},
		{Subject: l.hubs.signs + "." + l.hubs.Self()},
		{Subject: "$JS.API.STREAM.INFO." + stream},
		{Subject: "$JS.API.STREAM.PURGE." + stream, Data: []byte(`{"filter":"` + l.subjects.note("permission") + `","seq":1}`)}, // there is none
		{Subject: "$JS.API.STREAM.MSG.GET." + stream},
		{Subject: "$JS.API.STREAM.INFO." + l.bucketStream()},
		{Subject: "$JS.API.STREAM.PURGE." + l.bucketStream(), Data: []byte(`{"filter":"permission","seq":1}`)},
		{Subject: "$JS.API.STREAM.MSG.GET." + l.bucketStream()},
		{Subject: "$JS.API.DIRECT.GET." + stream},
		{Subject: "$JS.API.CONSUMER.DELETE." + stream + ".permission"},
		{Subject: "$JS.FC." + stream + ".permission"},
		{Subject: "$KV." + stream + bucketSuffix + ".permission", Header: refused},
		{Subject: l.pending.inbox + "permission"},
	}
	for _, kind := range messageKinds {
		list = append(list, &nats.Msg{Subject: l.subjects.message("permission", kind), Header: refused})
	}
	for _, m := range list {
		if err := l.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	calls, err := l.nc.SubscribeSync(l.hubs.signs + "." + l.hubs.Self())
	if err != nil {
		return err
	}
	defer func() { _ = calls.Unsubscribe() }() // it fails if the connection is closed
	return l.settlePermissions(ctx)
}

// settlePermissions waits until the server has handled everything that was sent, and returns an error if it has denied
// something.
func (l *Log) settlePermissions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := l.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("%w: the NATS server does not answer", store.ErrAway)
	}
	return denialOf(l.nc.LastError())
}
