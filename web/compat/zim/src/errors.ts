import { ParlorError, type ProblemCode } from 'parlor-sdk';
import { ZIMErrorCode as C } from './enums.ts';
import type { ZIMError } from './types.ts';

/** What a call is about, as far as it determines the number of an error. */
export type Area = 'connection' | 'room' | 'attributes' | 'memberAttributes' | 'message' | 'user';

/**
 * The number of each code of docs/errors.md and of the SDK, so that a new code cannot be forgotten.
 * docs/room-states.md has the same table the other way round. Failed stands for the codes of calls
 * that this client does not make.
 */
export const numbers: Record<ProblemCode, C> = {
  attributes_full: C.RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit,
  ban_not_found: C.Failed,
  banned: C.RoomModuleRoomMemberIsBlocked,
  block_not_found: C.FriendModuleUserNotInBlacklist,
  block_self: C.FriendModuleCannotAddSelfToBlacklist,
  blocked: C.MessageModuleSenderInBlacklist,
  body_timeout: C.NetworkModuleRequestTimeout,
  body_too_large: C.CommonModuleParamsInvalid,
  broadcast_not_found: C.Failed,
  client_message_id_reused: C.MessageModuleSendMessageFailed,
  conversation_not_found: C.ConversationModuleConversationDoesNotExist,
  creator_room_limit: C.RoomModuleTheNumberOfExistingRoomsHasReachedLimit,
  file_too_large: C.MessageModuleFileSizeInvalid,
  file_unreadable: C.MessageModuleFileNotExist,
  forbidden_host: C.Failed,
  forbidden_proxy: C.Failed,
  internal: C.CommonModuleIMServerError,
  invalid_request: C.CommonModuleParamsInvalid,
  malformed_json: C.CommonModuleParamsInvalid,
  media_duration: C.MessageModuleFileDurationInvalid,
  media_lost: C.MessageModuleFileNotExist,
  media_not_found: C.MessageModuleFilePermissionDenied,
  media_quota: C.MessageModuleFileServerError,
  media_readers: C.Failed,
  media_sent: C.Failed,
  media_size: C.MessageModuleFileSizeInvalid,
  media_type: C.MessageModuleFileTypeUnsupported,
  media_url_refused: C.Failed,
  member_not_found: C.RoomModuleUserIsNotInTheRoom,
  message_not_found: C.MessageModuleTargetDoesNotExist,
  message_to_self: C.CommonModuleParamsInvalid,
  method_not_allowed: C.Failed,
  name_signed: C.CommonModuleUnsupportedRequest,
  network_error: C.NetworkModuleNetworkError,
  no_history: C.CommonModuleUnsupportedRequest,
  not_admin: C.Failed,
  not_found: C.Failed,
  not_granted: C.CommonModuleUnsupportedRequest,
  not_in_feed: C.Failed,
  not_in_room: C.RoomModuleUserIsNotInTheRoom,
  not_sender: C.MessageModuleCommonError,
  precondition_failed: C.Failed,
  range_not_satisfiable: C.Failed,
  recall_too_late: C.MessageModuleMessageExceedsRevokeTime,
  room_exists: C.RoomModuleTheRoomAlreadyExists,
  room_full: C.RoomModuleJoinRoomError,
  room_limit: C.RoomModuleTheNumberOfExistingRoomsHasReachedLimit,
  room_not_found: C.RoomModuleTheRoomDoesNotExist,
  seq_ahead: C.ConversationModuleCommonError,
  server_full: C.NetworkModuleServerError,
  session_ended: C.NetworkModuleUserIsNotLogged,
  session_not_found: C.Failed,
  status_subscription_limit: C.CommonModuleUnsupportedRequest,
  storage_full: C.MessageModuleFileServerError,
  stream_key_refused: C.Failed,
  stream_ticket_refused: C.Failed,
  token_expired: C.NetworkModuleTokenExpired,
  token_invalid: C.NetworkModuleTokenInvalid,
  token_user_mismatch: C.NetworkModuleUserIDError,
  token_void: C.NetworkModuleTokenInvalid,
  too_many_attribute_changes: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_blocks: C.CommonModuleBlacklistLimit,
  too_many_broadcasts: C.Failed,
  too_many_connections: C.NetworkModuleServerError,
  too_many_inbox_changes: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_joins: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_logins: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_messages: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_profile_changes: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_rooms: C.RoomModuleTheNumberOfJoinedRoomsHasReachedLimit,
  too_many_rooms_created: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_status_changes: C.CommonModuleTriggerServerFrequencyLimit,
  too_many_streams: C.NetworkModuleServerError,
  too_many_unsent: C.CommonModuleTriggerSDKFrequencyLimit,
  too_much_barrage: C.CommonModuleTriggerServerFrequencyLimit,
  tus_version: C.Failed,
  unauthenticated: C.NetworkModuleUserIsNotLogged,
  unavailable: C.CommonModuleIMDatabaseError,
  unexpected_reply: C.NetworkModuleServerError,
  unsupported_media_type: C.Failed,
  upload_incomplete: C.MessageModuleFileServerError,
  upload_interrupted: C.MessageModuleFileServerError,
  upload_offset: C.MessageModuleFileServerError,
  upload_stalled: C.MessageModuleFileServerError,
  upload_too_long: C.MessageModuleFileSizeInvalid,
  user_in_room: C.RoomModuleJoinRoomError,
  user_not_found: C.CommonModuleUserIsNotExist,
  version_mismatch: C.RoomModuleRoomAttributesOperationFailedCompletely,
};

/** The numbers that differ with what a call is about. */
export const inArea: Partial<Record<Area, Partial<Record<ProblemCode, C>>>> = {
  room: { not_granted: C.RoomModuleJoinRoomError },
  memberAttributes: {
    attributes_full: C.RoomModuleTheTotalLengthOfRoomMemberAttributesExceedsLimit,
  },
  message: {
    not_granted: C.MessageModuleSendMessageFailed,
    not_in_room: C.MessageModuleTargetDoesNotExist,
    room_not_found: C.MessageModuleTargetDoesNotExist,
    user_not_found: C.MessageModuleTargetDoesNotExist,
  },
};

/** Converts an error to what calls of the ZIM SDK are rejected with. */
export function zimError(error: unknown, area: Area): ZIMError {
  if (error instanceof ParlorError) {
    // A server that is newer than this code may have other codes.
    const code = inArea[area]?.[error.code] ?? numbers[error.code] ?? C.Failed;
    return failure(code, error.message);
  }
  if (isFailure(error)) return error;
  if (error instanceof TypeError) return invalid(error.message); // an argument is not what it should be
  return failure(C.Failed, error instanceof Error ? error.message : String(error));
}

/** The most bytes of keys and values of attributes, and the numbers for longer ones. */
const lengths = {
  attributes: {
    key: { most: 16, code: C.RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit },
    value: { most: 1024, code: C.RoomModuleTheLengthOfRoomAttributeValueExceedsLimit },
  },
  memberAttributes: {
    key: { most: 8, code: C.RoomModuleTheLengthOfRoomMemberAttributesKeyExceedsLimit },
    value: { most: 64, code: C.RoomModuleTheLengthOfRoomMemberAttributesValueExceedsLimit },
  },
};

/** Returns the error with the number for attributes that are too long, if that is why it occurred. */
export function lengthError(error: unknown, area: keyof typeof lengths, attributes: Record<string, string>): unknown {
  if (!isCode(error, 'invalid_request')) return error;
  const { key, value } = lengths[area];
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  const { message } = error as ParlorError;
  if (Object.keys(attributes).some((name) => bytes(name) > key.most)) return failure(key.code, message);
  if (Object.values(attributes).some((text) => bytes(text) > value.most)) return failure(value.code, message);
  return error;
}

export function failure(code: C, message: string): ZIMError {
  return { code, message };
}

export function notSupported(what: string): ZIMError {
  return failure(C.CommonModuleUnsupportedRequest, `Parlor does not offer ${what}.`);
}

export function invalid(message: string): ZIMError {
  return failure(C.CommonModuleParamsInvalid, message);
}

export function notLogged(): ZIMError {
  return failure(C.NetworkModuleUserIsNotLogged, 'The user is not logged in.');
}

function isFailure(error: unknown): error is ZIMError {
  return typeof error === 'object' && error !== null && 'code' in error && 'message' in error;
}

export function isCode(error: unknown, code: ProblemCode): boolean {
  return error instanceof ParlorError && error.code === code;
}
