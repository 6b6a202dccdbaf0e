export enum QNConnectionState {
  DISCONNECTED = 'DISCONNECTED',
  CONNECTING = 'CONNECTING',
  CONNECTED = 'CONNECTED',
  RECONNECTING = 'RECONNECTING',
  RECONNECTED = 'RECONNECTED',
}

export enum QNConnectionDisconnectedReason {
  LEAVE = 'LEAVE',
  KICKED_OUT = 'KICKED_OUT',
  ERROR = 'ERROR',
}

export enum QNClientMode {
  RTC = 'RTC',
  LIVE = 'LIVE',
}

export enum QNClientRole {
  BROADCASTER = 'BROADCASTER',
  AUDIENCE = 'AUDIENCE',
}

export enum QNLogLevel {
  VERBOSE = 'VERBOSE',
  INFO = 'INFO',
  WARNING = 'WARNING',
  ERROR = 'ERROR',
  NONE = 'NONE',
}

export enum QNNetworkQuality {
  UNKNOWN = 'UNKNOWN',
  EXCELLENT = 'EXCELLENT',
  GOOD = 'GOOD',
  FAIR = 'FAIR',
  POOR = 'POOR',
}

// The rest is of audio and video: the names exist, so that code which imports them runs.

export enum QNLiveStreamingState {
  STARTED = 'STARTED',
  STOPPED = 'STOPPED',
}

export enum QNMediaRelayState {
  SUCCESS = 0,
  STOPPED = 1,
  INVALID_TOKEN = 2,
  NO_ROOM = 3,
  ROOM_CLOSED = 4,
  PLAYER_EXISTED = 5,
}

export enum QNRenderMode {
  FILL = 'scaleToFit',
  ASPECT_FILL = 'aspectFill',
  ASPECT_FIT = 'aspectFit',
}

export enum QNTrackProfile {
  LOW = 'LOW',
  MEDIUM = 'MEDIUM',
  HIGH = 'HIGH',
}

export enum QNTransportPolicy {
  FORCE_UDP = 'FORCE_UDP',
  FORCE_TCP = 'FORCE_TCP',
  PREFER_UDP = 'PREFER_UDP',
}

export enum QNVideoOptimizationMode {
  MOTION = 'motion',
  DETAIL = 'detail',
  DEFAULT = '',
}
