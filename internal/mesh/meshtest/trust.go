package meshtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// domain is what the identities of a mesh begin with.
const domain = "spiffe://cluster.local/"

// Trust issues the certificates of a mesh, as istiod does.
type Trust struct {
	t    testing.TB
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewTrust makes a root certificate.
func NewTrust(t testing.TB) *Trust {
	t.Helper()
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	trust := &Trust{t: t, root: template}
	der, key := trust.issue(template, nil)
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trust.root, trust.key = root, key
	return trust
}

// issue signs a template, by its own key where there is no root yet.
func (c *Trust) issue(template *x509.Certificate, signer *ecdsa.PrivateKey) (der []byte, key *ecdsa.PrivateKey) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		c.t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err = x509.CreateCertificate(rand.Reader, template, c.root, key.Public(), signer)
	if err != nil {
		c.t.Fatal(err)
	}
	return der, key
}

// certificate is that of a service account of the namespace default.
func (c *Trust) certificate(account string) tls.Certificate {
	c.t.Helper()
	id, err := url.Parse(domain + "ns/default/sa/" + account)
	if err != nil {
		c.t.Fatal(err)
	}
	der, key := c.issue(&x509.Certificate{
		URIs: []*url.URL{id}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, c.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// config is TLS with a certificate, to peers who show one of the mesh's.
func (c *Trust) config(account string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(c.root)
	return &tls.Config{
		Certificates: []tls.Certificate{c.certificate(account)}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true, // an identity is no host name
		VerifyConnection: func(s tls.ConnectionState) error {
			peer := s.PeerCertificates[0]
			if len(peer.URIs) != 1 || !strings.HasPrefix(peer.URIs[0].String(), domain) {
				return errors.New("no identity of the mesh")
			}
			_, err := peer.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}

// Secrets writes what an agent would serve to a proxy of a service account, and gives the folder: for each name of a secret a
// file NAME.json.
func (c *Trust) Secrets(account string) (dir string) {
	c.t.Helper()
	dir, own := c.t.TempDir(), c.certificate(account)
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	inline := func(kind string, der []byte) any {
		return map[string]any{"inlineString": string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))}
	}
	for name, secret := range map[string]map[string]any{
		"default": {"tlsCertificate": map[string]any{
			"certificateChain": inline("CERTIFICATE", own.Certificate[0]), "privateKey": inline("PRIVATE KEY", key)}},
		"ROOTCA": {"validationContext": map[string]any{"trustedCa": inline("CERTIFICATE", c.root.Raw)}},
	} {
		secret["@type"], secret["name"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", name
		text, err := json.Marshal(map[string]any{"resources": []any{secret}})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".json"), text, 0o600)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return dir
}
