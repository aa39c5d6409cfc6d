package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/grantway/grantway/connector"
)

// edition is a digest of all that has a part in getting a token. It is in the key of every
// token, so that an edit which changes the token request ends the use of the tokens before it on every
// replica, and one that changes titles does not.
func edition(d *connector.Definition) string {
	s := d.Source
	part := connector.Source{
		Vars: s.Vars, Certificate: s.Certificate, Signers: s.Signers,
		OAuth2: s.OAuth2, Request: s.Request, Steps: s.Steps, Token: s.Token, Errors: s.Errors, Discover: s.Discover,
	}
	if s.Discover != nil { // that request is authorized
		part.Apply = s.Apply
	}
	for _, in := range s.Inputs {
		part.Inputs = append(part.Inputs, connector.Input{Key: in.Key, Type: in.Type, Default: in.Default, Locked: in.Locked})
	}
	text, err := json.Marshal(part)
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
