package room

import (
	"cmp"
	"net/url"
	"strings"
	"time"
)

// Limits of a profile, in bytes, as in the vendors' SDKs. A name has at most MaxUserNameBytes.
const (
	MaxAvatarURLBytes        = 500
	MaxUserExtendedDataBytes = 2048
)

// Profile is what a user shows to other users.
type Profile struct {
	User
	AvatarURL string `json:"avatarURL,omitempty"`
	// ExtendedData is text of the application about the user.
	ExtendedData string `json:"userExtendedData,omitempty"`
	// TokenName is the name in the newest token with a name that the user has logged in with; "" if
	// there was none.
	TokenName string `json:"-"`
}

// ProfileUpdate is a change of a profile. A nil field means no change.
type ProfileUpdate struct {
	Name         *string
	AvatarURL    *string
	ExtendedData *string
	// NamesSigned says that a name in a token can only be changed by another token.
	NamesSigned bool
}

// Update returns the profile after a change. Errors: ErrNameSigned.
func (p Profile) Update(u ProfileUpdate) (Profile, error) {
	if u.NamesSigned && p.TokenName != "" && u.Name != nil && *u.Name != p.Name {
		return p, ErrNameSigned
	}
	set(&p.Name, u.Name)
	set(&p.AvatarURL, u.AvatarURL)
	set(&p.ExtendedData, u.ExtendedData)
	return p, nil
}

// Naming is what a login says about the name of its user.
type Naming struct {
	// Asked is the name that the client asks for, and Token the name in the token; "" means none.
	Asked, Token string
	// Signed says that the name in the token is the name of the user, whatever the client asks for.
	Signed bool
}

// LogIn returns the profile after a login. The name that the client asks for wins over the one in
// the token, unless names are signed. The name in the token counts only if it is not that of the
// login before: users may have changed their names since, which the same token must not undo. If a
// new user has no name, it is the ID.
func (p Profile) LogIn(n Naming) Profile {
	switch {
	case n.Signed && n.Token != "":
		p.Name = n.Token
	case n.Asked != "":
		p.Name = n.Asked
	case n.Token != "" && n.Token != p.TokenName:
		p.Name = n.Token
	}
	p.Name = cmp.Or(p.Name, string(p.ID))
	p.TokenName = cmp.Or(n.Token, p.TokenName)
	return p
}

// ValidAvatarURL reports whether a text is the URL of a picture: absolute, with the scheme http or
// https and a host, in ASCII, and without a user.
func ValidAvatarURL(text string) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\^{|}`+"`", r) }) {
		return false
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil
}

// PublishProfile publishes the new profile of a member, if the log has names. announced says that
// the join of the member is in the log: if it is pending, it is going to have the new profile.
func (r Room) PublishProfile(p Profile, announced bool, now time.Time) (Room, []Event) {
	if !announced || !r.publishesNames() {
		return r, nil
	}
	return r.append(nil, now, UserInfoUpdated{UserList: []Profile{p}})
}
