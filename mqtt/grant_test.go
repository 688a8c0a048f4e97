package mqtt

import (
	"context"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
)

// grant returns a grant for a subject, with rights to read and to publish.
func grant(t *testing.T, subject string, read, publish []string) *access.Grant {
	t.Helper()
	g, err := access.NewGrant(subject, "", read, publish, false, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// serveGrants starts a server that gives each client the grant that its password names.
func serveGrants(t *testing.T, grants map[string]*access.Grant) *wired {
	t.Helper()
	return serve(t, func(_ *hub.Options, o *Options) {
		o.Authenticate = func(_ context.Context, l *Login) (*access.Grant, error) {
			if g := grants[l.Password]; g != nil {
				return g, nil
			}
			return nil, access.ErrInvalid
		}
	})
}

// as makes a client send a password and keep its session.
func as(password string) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.UsernameFlag, pk.Connect.PasswordFlag, pk.Connect.Password = true, password != "", []byte(password)
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	}
}

func (c *wire) subscribe(filters ...packets.Subscription) {
	c.Helper()
	c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: filters})
	for i, code := range c.expect(packets.Suback).ReasonCodes {
		if code != filters[i].Qos {
			c.Fatalf("SUBACK %#x for %s", code, filters[i].Filter)
		}
	}
}

func TestAMessageIsNotSentAgainIfTheClientMayNotReadItAnyMore(t *testing.T) {
	both, one := []string{"g", "own"}, []string{"own"}
	r := serveGrants(t, map[string]*access.Grant{"both": grant(t, "me", both, both), "own": grant(t, "me", one, one)})
	for _, qos := range []byte{1, 2} {
		c := r.admitted("a", as("both"))
		c.subscribe(sub("g", qos), sub("own", qos))
		c.publish("g", "secret", qos, 1, nil)
		got := 0
		for got == 0 {
			if pk := c.receive(); pk.FixedHeader.Type == packets.Publish {
				got++
			}
		}
		_ = c.Close()
		c = r.admitted("a", as("own"))
		c.publish("own", "mine", 0, 0, nil)
		for {
			pk := c.receive()
			if pk.FixedHeader.Type != packets.Publish {
				continue
			}
			if string(pk.Payload) != "mine" {
				t.Errorf("%q was sent again", pk.Payload)
			}
			break
		}
		_ = c.Close()
	}
}

func TestAClientThatMayNotPublishAnyMoreIsRefusedAtOnce(t *testing.T) {
	r := serveGrants(t, map[string]*access.Grant{"both": grant(t, "me", []string{"g"}, []string{"g", "own"})})
	c := r.admitted("a", as("both"))
	c.subscribe(sub("g", 1))
	c.publish("g", "1", 1, 1, nil)
	for range 2 {
		if pk := c.receive(); pk.ReasonCode != 0 { // the PUBACK, and the message itself
			t.Fatalf("%+v", pk)
		}
	}
	if err := r.hub.Renew(sessions.ClientUID("mqtt", "me", "a"), grant(t, "me", []string{"g"}, []string{"own"})); err != nil {
		t.Fatal(err)
	}
	c.publish("g", "2", 1, 2, nil)
	c.expectAck(packets.Puback, 2, packets.ErrNotAuthorized.Code)
	c.publish("own", "3", 1, 3, nil)
	c.expectAck(packets.Puback, 3, 0)
	r.expectMessages("g", "1")
}

func TestAClientMayLoseItsLastSubscription(t *testing.T) {
	r := serveGrants(t, map[string]*access.Grant{"both": grant(t, "me", []string{"g", "own"}, []string{"g", "own"})})
	c := r.admitted("a", as("both"))
	c.subscribe(sub("g", 1))
	if err := r.hub.Renew(sessions.ClientUID("mqtt", "me", "a"), grant(t, "me", []string{"own"}, []string{"g", "own"})); err != nil {
		t.Fatal(err)
	}
	c.publish("g", "1", 1, 1, nil)
	c.expectAck(packets.Puback, 1, 0)
	c.subscribe(sub("own", 1))
	c.publish("own", "2", 0, 0, nil)
	if pk := c.expect(packets.Publish); pk.TopicName != "own" {
		t.Errorf("%+v", pk)
	}
}

func TestOnlyCallersWithTheSameSubjectShareASession(t *testing.T) {
	all := []string{"#"}
	anonymous := grant(t, "", all, all)
	anonymous.Anonymous = true
	r := serveGrants(t, map[string]*access.Grant{
		"": anonymous, "no subject": grant(t, "", all, all), "me": grant(t, "me", all, all), "you": grant(t, "you", all, all),
	})
	names := []string{"", "no subject", "me", "you"}
	var list []*wire
	for _, name := range names {
		c, ack := r.connect("a", as(name))
		if ack.ReasonCode != 0 || ack.SessionPresent {
			t.Errorf("%q: code %#x, session present: %v", name, ack.ReasonCode, ack.SessionPresent)
		}
		list = append(list, c)
	}
	for i, c := range list {
		c.ping() // it was not taken over
		if _, ack := r.connect("a", as(names[i])); !ack.SessionPresent {
			t.Errorf("%q: its session was not kept", names[i])
		}
		c.expectEnd(packets.ErrSessionTakenOver.Code)
	}
}
