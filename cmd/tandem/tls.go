package main

import (
	"crypto/tls"
	"sync/atomic"
)

// A keyPair is a certificate with its key, read again when the files change.
type keyPair struct {
	cert, key string
	now       atomic.Pointer[tls.Certificate]
}

// newKeyPair returns nil where no TLS is asked for.
func newKeyPair(c *config) (*keyPair, error) {
	if c.tlsCert == "" {
		return nil, nil
	}
	k := &keyPair{cert: c.tlsCert, key: c.tlsKey}
	if err := k.load(); err != nil {
		return nil, usagef("%s and %s: %w", c.source("tls-cert"), c.source("tls-key"), err)
	}
	return k, nil
}

func (k *keyPair) load() error {
	pair, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err != nil {
		return err
	}
	k.now.Store(&pair)
	return nil
}

func (k *keyPair) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // a WebSocket takes a connection over, which HTTP/2 has no place for
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.now.Load(), nil },
	}
}
