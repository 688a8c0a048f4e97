//go:build !windows

package mqtt_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// connectPaho5 connects with paho.golang, which speaks MQTT 5.
func connectPaho5(t testing.TB, b *broker, o connection) (*client, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := &client{received: newList()}
	lost := make(chan byte, 2)
	cl.lost = lost
	var conn net.Conn = b.dial()
	if o.tls != nil {
		conn = tls.Client(conn, o.tls)
	}
	conn = packets.NewThreadSafeConn(conn)
	lib := paho.NewClient(paho.ClientConfig{
		ClientID: o.id,
		Conn:     conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			cl.received.add(message{r.Packet.Topic, string(r.Packet.Payload), r.Packet.QoS, r.Packet.Retain})
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { offer(lost, d.ReasonCode) },
		OnClientError:      func(error) { offer(lost, 0) },
	})
	expiry := uint32(3600)
	connect := &paho.Connect{ClientID: o.id, CleanStart: !o.keep, KeepAlive: 30}
	if o.keep {
		connect.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry, RequestProblemInfo: true}
	}
	if o.password != "" {
		connect.Username, connect.UsernameFlag, connect.Password, connect.PasswordFlag = "any", true, []byte(o.password), true
	}
	if w := o.will; w != nil {
		connect.WillMessage = &paho.WillMessage{Topic: w.topic, Payload: []byte(w.payload), QoS: w.qos, Retain: w.retain}
	}
	ack, err := lib.Connect(ctx, connect)
	if err != nil {
		return nil, err
	}
	cl.present = ack.SessionPresent
	cl.subscribe = func(filter string, qos byte) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := lib.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
		if err != nil {
			t.Fatalf("subscribe %q: %v", filter, err)
		}
	}
	cl.publish = func(m message) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := lib.Publish(ctx, &paho.Publish{Topic: m.topic, Payload: []byte(m.payload), QoS: m.qos, Retain: m.retain})
		if err != nil {
			t.Fatalf("publish to %q: %v", m.topic, err)
		}
	}
	cl.cut = closer(conn)
	cl.end = sync.OnceFunc(func() {
		_ = lib.Disconnect(&paho.Disconnect{}) // it may be lost
		<-lib.Done()
	})
	t.Cleanup(cl.end)
	return cl, nil
}

func offer(c chan<- byte, b byte) {
	select {
	case c <- b:
	default:
	}
}

// connectPaho3 connects with paho.mqtt.golang, which speaks MQTT 3.1.1.
func connectPaho3(t testing.TB, b *broker, o connection) (*client, error) {
	t.Helper()
	cl := &client{received: newList()}
	lost := make(chan byte, 2)
	cl.lost = lost
	var conn net.Conn
	opts := paho3.NewClientOptions().AddBroker("tcp://" + b.addr).SetClientID(o.id).SetCleanSession(!o.keep).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(patience).SetOrderMatters(true).
		SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (net.Conn, error) {
			conn = b.dial()
			if o.tls != nil {
				conn = tls.Client(conn, o.tls)
			}
			return conn, nil
		}).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
			cl.received.add(message{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()})
		}).
		SetConnectionLostHandler(func(paho3.Client, error) { offer(lost, 0) })
	if o.password != "" {
		opts.SetUsername("any").SetPassword(o.password)
	}
	if w := o.will; w != nil {
		opts.SetBinaryWill(w.topic, []byte(w.payload), w.qos, w.retain)
	}
	lib := paho3.NewClient(opts)
	done := func(what string, token paho3.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) {
			t.Fatal(what + ": timed out")
		}
		if err := token.Error(); err != nil {
			t.Fatal(what+": ", err)
		}
	}
	token := lib.Connect().(*paho3.ConnectToken)
	if !token.WaitTimeout(patience) {
		t.Fatal("connect: timed out")
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	cl.present = token.SessionPresent()
	cl.subscribe = func(filter string, qos byte) {
		t.Helper()
		done("subscribe", lib.Subscribe(filter, qos, nil))
	}
	cl.publish = func(m message) { t.Helper(); done("publish", lib.Publish(m.topic, m.qos, m.retain, m.payload)) }
	cl.cut = closer(conn)
	cl.end = sync.OnceFunc(func() { lib.Disconnect(uint((100 * time.Millisecond).Milliseconds())) })
	t.Cleanup(cl.end)
	return cl, nil
}
