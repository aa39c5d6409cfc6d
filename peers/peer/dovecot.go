package peer

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Mail is a running Dovecot, an IMAP server whose users sign in with access tokens. It stops with the
// test that started it.
type Mail struct {
	tb      testing.TB
	address string
	log     string // file
}

// Dovecot starts an IMAP server. oauth2 returns the settings of its OAuth2 passdb; the files that they
// name go into dir, where the server can read them.
func Dovecot(tb testing.TB, oauth2 func(dir string) string) *Mail {
	tb.Helper()
	binary := filepath.Join(root(tb), ".cache", "dovecot")
	need(tb, binary)
	dir, err := os.MkdirTemp("", "grantway-dovecot") // others may not look into tb.TempDir
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		tb.Fatal(err)
	}
	m := &Mail{tb: tb, address: listener.Addr().String(), log: filepath.Join(dir, "log")}
	listener.Close()
	_, port, _ := net.SplitHostPort(m.address)

	// Root's Dovecot has users of its own for its parts, and lets root read no mail.
	internal, untrusted, owner := "dovecot", "dovenull", "dovecot"
	if os.Getuid() != 0 {
		me, err := user.Current()
		if err != nil {
			tb.Fatal(err)
		}
		internal, untrusted, owner = me.Username, me.Username, me.Username
	}
	mailbox, err := user.Lookup(owner)
	if err != nil {
		tb.Fatalf("peer: dovecot: %v", err)
	}
	group, err := user.LookupGroupId(mailbox.Gid)
	if err != nil {
		tb.Fatalf("peer: dovecot: %v", err)
	}
	mail := filepath.Join(dir, "mail")
	if err := os.Mkdir(mail, 0o700); err != nil {
		tb.Fatal(err)
	}
	if os.Getuid() == 0 {
		uid, _ := strconv.Atoi(mailbox.Uid)
		gid, _ := strconv.Atoi(mailbox.Gid)
		if err := os.Chown(mail, uid, gid); err != nil {
			tb.Fatal(err)
		}
	}
	settings := filepath.Join(dir, "dovecot-oauth2.conf")
	config := filepath.Join(dir, "dovecot.conf")
	for path, text := range map[string]string{settings: oauth2(dir), config: strings.NewReplacer(
		"DIR", dir, "PORT", port, "INTERNAL", internal, "UNTRUSTED", untrusted, "UID", mailbox.Uid, "GID", mailbox.Gid, "GROUP", group.Name, "OAUTH2", settings).
		Replace(dovecotConfig)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}

	// The shell ends Dovecot when this test closes its standard input, or is killed.
	cmd := exec.Command("sh", "-c", `"$1" -F -c "$2" & read -r _; kill $!; wait`, "sh", binary, config)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("peer: dovecot: %v", err)
	}
	tb.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		if tb.Failed() {
			tb.Logf("dovecot: %s%s", out.String(), m.Log())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", m.address)
		if err == nil {
			conn.Close()
			return m
		}
		if time.Now().After(deadline) {
			tb.Fatal("peer: dovecot did not start")
		}
	}
}

// dovecotConfig is all that Dovecot 2.3 needs to run in one directory: for mail of one user, without TLS.
const dovecotConfig = `
protocols = imap
listen = 127.0.0.1
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
auth_verbose = yes
ssl = no
disable_plaintext_auth = no
default_internal_user = INTERNAL
default_internal_group = GROUP
default_login_user = UNTRUSTED
first_valid_uid = 1
mail_location = maildir:DIR/mail/%u
auth_mechanisms = xoauth2 oauthbearer
auth_failure_delay = 0
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = OAUTH2
}
userdb {
  driver = static
  args = uid=UID gid=GID home=DIR/mail/%u
}
service imap-login {
  chroot =
  inet_listener imap {
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty { # else each refusal makes the next sign-in slower
    mode = 0
  }
}
service stats {
  chroot =
}
`

// Log is what the server has logged so far.
func (m *Mail) Log() string {
	text, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// SignIn signs a user in with an access token, by the SASL mechanism OAUTHBEARER (RFC 7628) or XOAUTH2, and
// says whether the server took it and has a mailbox for the user.
func (m *Mail) SignIn(mechanism, user, token string) bool {
	m.tb.Helper()
	conn, err := net.Dial("tcp", m.address)
	if err != nil {
		m.tb.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	lines := bufio.NewReader(conn)
	// answer reads to the line that begins with one of these.
	answer := func(begins ...string) string {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				m.tb.Fatalf("peer: dovecot: %v after %q", err, line)
			}
			for _, b := range begins {
				if strings.HasPrefix(line, b) {
					return line
				}
			}
		}
	}
	answer("* OK")
	message := fmt.Sprintf("user=%s\x01auth=Bearer %s\x01\x01", user, token)
	if mechanism == "OAUTHBEARER" {
		message = fmt.Sprintf("n,a=%s,\x01auth=Bearer %s\x01\x01", user, token)
	}
	fmt.Fprintf(conn, "1 AUTHENTICATE %s %s\r\n", mechanism, base64.StdEncoding.EncodeToString([]byte(message)))
	got := answer("1 ", "+ ")
	if strings.HasPrefix(got, "+ ") { // the reason of a refusal, which is to be answered
		fmt.Fprint(conn, "AQ==\r\n")
		got = answer("1 ")
	}
	if !strings.HasPrefix(got, "1 OK") {
		return false
	}
	fmt.Fprint(conn, "2 STATUS INBOX (MESSAGES)\r\n")
	return strings.HasPrefix(answer("2 "), "2 OK")
}
