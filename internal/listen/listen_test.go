package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"

	"golang.org/x/crypto/acme"
)

func TestClientsOfOtherProtocolsMayOfferAnyALPN(t *testing.T) {
	r := newPairRig(t)
	defer r.close()
	s := &Sockets{tls: &tls.Config{GetCertificate: r.certificate, NextProtos: []string{acme.ALPNProto}, MinVersion: tls.VersionTLS12}}
	ln, err := s.Listen(t.Context(), "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			err = errors.Join(c.(*tls.Conn).HandshakeContext(context.Background()), c.Close())
		}
		done <- err
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"mqtt"}})
	if err == nil {
		err = c.Close()
	}
	if err := errors.Join(err, <-done, ln.Close()); err != nil {
		t.Error(err)
	}
}
