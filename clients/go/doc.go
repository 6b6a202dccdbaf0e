// Package parlor is a Go client of Parlor's HTTP API, generated from openapi.yaml.
//
// Every operation of the API is a method of ClientWithResponses, which decodes the response: the
// field JSON200, JSON201 and so on for each documented status, and ApplicationproblemJSON404 and so
// on for errors, whose Code is stable. A field is nil if the response had another status. A method
// without WithResponse in its name returns the response undecoded.
//
// FollowEvents and FollowAdminEvents read a stream of Server-Sent Events, and reconnect when it is
// lost. They return values of StreamEvent or FeedEvent, whose methods such as
// AsRoomMessageReceivedFrame return the data. StreamEvents and StreamAdminEvents open such a stream
// once, and Events reads it. Do not use StreamEventsWithResponse and StreamAdminEventsWithResponse:
// they read the stream to its end before they return.
package parlor

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config client.yaml ../../openapi.yaml
