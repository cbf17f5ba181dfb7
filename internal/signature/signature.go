// Package signature signs requests as Standard Webhooks says.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/secret"
)

// Make returns the header Webhook-Signature of a request: its signature with each secret,
// as Standard Webhooks says ("Signature scheme": v1, HMAC-SHA256 over id.timestamp.body).
func Make(secrets [][]byte, id, timestamp string, body []byte) string {
	var b strings.Builder
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}

// The bounds of a signing secret in bytes, as Standard Webhooks gives them.
const (
	minSecret = 24
	maxSecret = 64
)

// Parse replaces the placeholders in the secrets of the option sign, and decodes them. Its
// errors do not show them.
func Parse(sign []string) ([][]byte, error) {
	var secrets [][]byte
	for i, raw := range sign {
		secret, err := parseSecret(raw)
		if err != nil {
			return nil, fmt.Errorf("sign: secret %d of %d: %w", i+1, len(sign), err)
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

func parseSecret(raw string) ([]byte, error) {
	text, err := secret.Resolve(raw)
	if err != nil {
		return nil, err
	}
	text = strings.TrimPrefix(strings.TrimSpace(text), "whsec_")
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("it is not base64; expected %d to %d bytes in base64, with or without the prefix whsec_", minSecret, maxSecret)
	}
	if len(secret) < minSecret || len(secret) > maxSecret {
		return nil, fmt.Errorf("it has %d bytes; expected %d to %d bytes in base64, with or without the prefix whsec_", len(secret), minSecret, maxSecret)
	}
	return secret, nil
}
