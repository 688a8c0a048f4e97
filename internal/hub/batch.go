package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/internal/group"
)

// draft returns a message of the publication with the given kind and data.
func (p *Publication) draft(k Kind, data []byte) Draft {
	return Draft{Group: p.Group, UID: p.UID, Subject: p.Grant.Subject, Event: p.Event, Meta: p.Meta, Kind: k, Data: data, TTL: p.TTL, Retain: p.Retain}
}

// encodeBatch adds the messages of a batch: the drafts that the embedding program passed, or the lines of a body.
func (e *encoder) encodeBatch(p *Publication) error {
	if !p.Program {
		return e.encodeLines(p, "such as "+batchExample, func(line []byte) (Draft, error) {
			d, err := parseLine(p.UID, line)
			d.Subject = p.Grant.Subject
			return d, err
		})
	}
	for i, d := range p.Batch {
		err := checkLine(&d)
		if err == nil {
			err = e.add(p, d)
		}
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	if len(p.Batch) == 0 {
		return &BodyError{"the batch is empty: it needs at least one message"}
	}
	return nil
}

// checkGroups returns an error if the grant does not allow each group of a batch. The answer to an earlier request
// does not show it, because that may have had another grant of the sender.
func (p *Publication) checkGroups() error {
	return lines(p.Body, func(n int, line []byte) error {
		d, err := parseLine(p.UID, line)
		if err == nil {
			err = p.Grant.CheckPublish(d.Group)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		return nil
	})
}

// MessageObject is a message as a JSON object, as it appears in a line of a batch.
type MessageObject struct {
	Group    string          `json:"group"`
	Msg      json.RawMessage `json:"msg"`
	Encoding string          `json:"encoding"`
	Event    *string         `json:"event"`
	Meta     json.RawMessage `json:"meta"`
	TTL      *string         `json:"ttl"`
	Retain   bool            `json:"retain"`
}

const batchExample = `{"group":"foo","msg":…}, with event, ttl, retain, meta and encoding if you need them`

// parseLine parses a line of a batch. The message's sender is the session uid.
func parseLine(uid string, line []byte) (Draft, error) {
	var in MessageObject
	if err := DecodeObject(line, "a line is an object such as "+batchExample, &in); err != nil {
		return Draft{}, err
	}
	return in.Draft(uid)
}

// Draft returns the message that the object describes, with the session uid as its sender.
func (in *MessageObject) Draft(uid string) (Draft, error) {
	d := Draft{Group: in.Group, UID: uid, Kind: JSON, Data: in.Msg, Retain: in.Retain}
	var err error
	switch {
	case len(in.Msg) == 0:
		err = &BodyError{"msg is missing: it can be any JSON value"}
	case in.Encoding != "":
		d.Kind = Bytes
		d.Data, err = decodeBytes(in.Encoding, in.Msg)
	}
	if err == nil && in.TTL != nil {
		d.TTL, err = parseDuration("ttl", *in.TTL, TTLs)
	}
	if err == nil && in.Event != nil {
		d.Event, err = EventName(*in.Event)
	}
	if err == nil {
		d.Meta, err = parseMeta(in.Meta)
	}
	if err == nil {
		err = checkLine(&d)
	}
	return d, err
}

// WillObject is a last will as a JSON object.
type WillObject struct {
	MessageObject
	Delay *string `json:"delay"`
}

// Will returns the message that the object describes, with the session uid as its sender, and its delay, or
// nil for none.
func (in *WillObject) Will(uid string) (d Draft, delay *time.Duration, err error) {
	if in.Delay != nil {
		after, err := parseDuration("delay", *in.Delay, WillDelays)
		if err != nil {
			return d, nil, err
		}
		delay = &after
	}
	d, err = in.Draft(uid)
	return d, delay, err
}

// checkLine checks the group, TTL and event of a message of a batch.
func checkLine(d *Draft) error {
	if err := group.CheckClient(d.Group); err != nil {
		return err
	}
	if d.TTL != 0 && d.TTL != AtOnce { // otherwise an error would be made for nothing
		if err := TTLs.Check(d.TTL); err != nil {
			return &BodyError{fmt.Sprintf("ttl: %s; 0 means that the message does not expire", err)}
		}
	}
	return CheckEvent(d.Event)
}

// decodeBytes decodes a msg whose object names an encoding.
func decodeBytes(encoding string, msg []byte) ([]byte, error) {
	if encoding != "base64" {
		return nil, &BodyError{fmt.Sprintf("encoding: %.64q is not supported; use base64, or leave it out for JSON", encoding)}
	}
	var b []byte
	if msg[0] != '"' || json.Unmarshal(msg, &b) != nil {
		return nil, &BodyError{"encoding is base64, but msg is not a base64 string (RFC 4648, section 4)"}
	}
	return b, nil
}

// DecodeObject decodes a JSON object into a struct, whose members are named in lower case. A member
// without a field in the struct is an error, and so is one that appears twice. The error is a *BodyError
// or an *ObjectError, and ends with looks, which shows a valid object.
func DecodeObject(b []byte, example string, to any) error {
	if !json.Valid(b) || !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return &BodyError{"not a JSON object; " + example}
	}
	if !utf8.Valid(b) { // encoding/json would replace bytes, and so change the name of a group
		return &BodyError{"not valid JSON: it is not UTF-8; " + example}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return &ObjectError{err, example}
	}
	if err := checkNames(b); err != nil {
		return &ObjectError{err, example}
	}
	return nil
}

// checkNames checks the names of the members of a JSON object that encoding/json has decoded. It ignores
// their case, and takes the last of several with one name, where another reader may take the first.
func checkNames(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	_, _ = d.Token() // "{"
	var seen []string
	var value json.RawMessage
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		switch {
		case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "":
			return fmt.Errorf("unknown field %.64q", name)
		case slices.Contains(seen, name):
			return fmt.Errorf("%s appears twice", name)
		}
		seen = append(seen, name)
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}

// ObjectError reports an unknown or repeated member of a JSON object, or a member of the wrong type.
type ObjectError struct {
	err     error
	example string
}

func (e *ObjectError) Error() string {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](e.err); ok {
		return fmt.Sprintf("%s cannot be a %s; %s", t.Field, t.Value, e.example)
	}
	return strings.TrimPrefix(e.err.Error(), "json: ") + "; " + e.example
}
