package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"multifactorymodel.org/ewindow/bot/privatefile"
	"multifactorymodel.org/ewindow/bridge/child"
)

// demoState is the content of the file demo.json in the data folder. The file lets a second start use the same addresses and accounts.
type demoState struct {
	// Admin is the account that made the network, on Munich's homeserver. Password is its password.
	Admin    string `json:"admin"`
	Password string `json:"password"`
	// Space is the network's room, empty before it is made.
	Space string `json:"space"`
	// TwoFoci gives each hub a focus. Otherwise both hubs use the focus of Munich's hub.
	TwoFoci bool         `json:"two_foci"`
	Windows []demoWindow `json:"windows"`

	path string
}

// demoWindow is one window with its hub.
type demoWindow struct {
	Name     string `json:"name"`
	Username string `json:"username"`
	Password string `json:"password"`
	// Ports on 127.0.0.1. Public is the hub's HTTPS port, which is also part of the server name; Local is its plain HTTP port.
	Public    int `json:"public_port"`
	Local     int `json:"local_port"`
	Matrix    int `json:"homeserver_port"`
	Turn      int `json:"turn_port"`
	Page      int `json:"page_port"`
	SFU       int `json:"livekit_port"`
	SFUMedia  int `json:"livekit_udp_port"`
	SFUStream int `json:"livekit_tcp_port"`
	// Secrets that the hub's parts share.
	Registration string `json:"registration_secret"`
	TurnSecret   string `json:"turn_secret"`

	folder string
}

func (p *demoWindow) serverName() string { return fmt.Sprintf("localhost:%d", p.Public) }
func (p *demoWindow) local() string      { return fmt.Sprintf("http://127.0.0.1:%d", p.Local) }
func (p *demoWindow) pageHost() string   { return fmt.Sprintf("127.0.0.1:%d", p.Page) }
func (p *demoWindow) dataDir() string    { return filepath.Join(p.folder, "data") }
func (p *demoWindow) userID() string     { return "@" + p.Username + ":" + p.serverName() }
func (p *demoWindow) configFile() string { return filepath.Join(p.folder, "config.yaml") }

// openDemo reads the demonstration in a data folder, or makes a new one there. It writes all files that the programs need. twoFoci has an
// effect only on a new demonstration.
func openDemo(folder string, twoFoci bool) (*demoState, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("the data folder %s can't be made (%w): name one that may be written with --data", folder, err)
	}
	s := &demoState{path: filepath.Join(folder, "demo.json"), TwoFoci: twoFoci}
	data, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := s.invent(); err != nil {
			return nil, err
		}
		if err := s.save(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("read the demonstration's data: %w", err)
	default:
		if err := json.Unmarshal(data, s); err != nil || len(s.Windows) != 2 {
			return nil, fmt.Errorf("%s is damaged: remove %s to begin anew", s.path, folder)
		}
	}
	if err := makeCertificates(folder); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	for i := range s.Windows {
		p := &s.Windows[i]
		p.folder = filepath.Join(folder, p.Username)
		if err := os.MkdirAll(p.folder, 0o700); err != nil {
			return nil, fmt.Errorf("make a folder for %s: %w", p.Name, err)
		}
		if err := os.WriteFile(p.configFile(), []byte(s.config(i, folder)), 0o600); err != nil {
			return nil, fmt.Errorf("write the configuration of %s: %w", p.Name, err)
		}
	}
	return s, nil
}

// invent chooses names, ports and secrets.
func (s *demoState) invent() error {
	s.Admin, s.Password = "admin", rand.Text()[:12]
	port := func(wanted int) (int, error) {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", wanted)); wanted != 0 && err == nil {
			_ = l.Close()
			return wanted, nil
		}
		return child.FreePort()
	}
	for i, name := range []string{"Munich", "Dresden"} {
		p := demoWindow{
			Name: name, Username: []string{"munich", "dresden"}[i],
			Password: rand.Text(), Registration: rand.Text(), TurnSecret: rand.Text(),
		}
		for _, to := range []*int{&p.Public, &p.Local, &p.Matrix, &p.Turn, &p.SFU, &p.SFUMedia, &p.SFUStream, &p.Page} {
			wanted := 0
			if to == &p.Page {
				wanted = 8470 + i
			}
			var err error
			if *to, err = port(wanted); err != nil {
				return err
			}
		}
		s.Windows = append(s.Windows, p)
	}
	return nil
}

// save writes demo.json. A crash leaves the old file or the new one, never half of it.
func (s *demoState) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = privatefile.Write(s.path, data)
	}
	if err != nil {
		return fmt.Errorf("write the demonstration's data: %w", err)
	}
	return nil
}

// checkPorts returns an error that names a port of the demonstration that another program uses.
func (s *demoState) checkPorts() error {
	for _, p := range s.Windows {
		for _, port := range []int{p.Public, p.Local, p.Matrix, p.Turn, p.Page, p.SFU, p.SFUStream} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return fmt.Errorf("port %d is used by another program: end that one (another demo with the same data?), or remove %s to begin anew",
					port, filepath.Dir(s.path))
			}
			_ = l.Close()
		}
	}
	return nil
}

// config is the configuration file of one window, for its kiosk and its hub. Without TwoFoci only Munich's hub has a focus.
func (s *demoState) config(i int, folder string) string {
	p, first, host := &s.Windows[i], &s.Windows[0], &s.Windows[0]
	if s.TwoFoci {
		host = p
	}
	focus := "enabled: false"
	if host == p {
		focus = fmt.Sprintf("enabled: true\n    port: %d\n    udp_port: %d\n    tcp_port: %d\n    allow_loopback: true\n"+
			"    full_access_homeservers: [%q, %q]\n    public_url: ws://127.0.0.1:%d/livekit/sfu",
			p.SFU, p.SFUMedia, p.SFUStream, first.serverName(), s.Windows[1].serverName(), p.Local)
	}
	return fmt.Sprintf(`# Made by "ewindow demo" for %[1]s. example-config.yaml explains the keys.
data_dir: data
homeserver:
  url: http://127.0.0.1:%[2]d
  username: %[3]s
  password: %[4]s
network:
  admins: ["@%[5]s:%[6]s"]
window:
  name: %[1]s
kiosk:
  listen: 127.0.0.1:%[7]d
  test_pattern: true
media:
  allow_loopback: true
  allow_networks: ["127.0.0.0/8", "::1/128"]
hub:
  listen: 127.0.0.1:%[8]d
  local_listen: 127.0.0.1:%[2]d
  public_url: https://localhost:%[8]d
  tls_certificate: %[9]q
  tls_key: %[10]q
  turnserver:
    enabled: true
    listen: ["udp://127.0.0.1:%[11]d", "tcp://127.0.0.1:%[11]d"]
    public_ip: 127.0.0.1
    secret: %[12]s
    relay_ports: "0"
    allowed_peers: ["127.0.0.1:%[13]d"]
  focus:
    %[14]s
    livekit_service_url: http://127.0.0.1:%[15]d/livekit/jwt
  homeserver:
    enabled: true
    server_name: %[16]s
    registration_secret: %[17]s
    port: %[18]d
    allow_networks: ["127.0.0.0/8", "::1/128"]
    deny_networks: []
    bcrypt_cost: 4
`, p.Name, p.Local, p.Username, p.Password, s.Admin, first.serverName(), p.Page, p.Public,
		filepath.Join(folder, "hub.pem"), filepath.Join(folder, "hub-key.pem"), p.Turn, p.TurnSecret, host.SFUMedia,
		focus, host.Local, p.serverName(), p.Registration, p.Matrix)
}

// caFile is the path of the certificate of the demonstration's own authority. The authority's key is never written.
func caFile(folder string) string { return filepath.Join(folder, "ca.pem") }

// makeCertificates makes a certificate authority and a certificate for localhost that it signs, unless the files exist.
func makeCertificates(folder string) error {
	paths := []string{caFile(folder), filepath.Join(folder, "hub.pem"), filepath.Join(folder, "hub-key.pem")}
	missing := false
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	hubKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	from, until := time.Now().Add(-time.Hour), time.Now().AddDate(2, 0, 0)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e-window demo"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	hub := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return err
	}
	hubDER, err := x509.CreateCertificate(rand.Reader, hub, authority, &hubKey.PublicKey, authorityKey)
	if err != nil {
		return err
	}
	hubKeyDER, err := x509.MarshalPKCS8PrivateKey(hubKey)
	if err != nil {
		return err
	}
	for i, block := range []*pem.Block{
		{Type: "CERTIFICATE", Bytes: authorityDER}, {Type: "CERTIFICATE", Bytes: hubDER}, {Type: "PRIVATE KEY", Bytes: hubKeyDER},
	} {
		if err := os.WriteFile(paths[i], pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
