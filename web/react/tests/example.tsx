import { ParlorProvider, useConnection, useMembers, useMessages, useRoom } from 'parlor-react';
import type { Parlor } from 'parlor-sdk';

export function App({ parlor }: { parlor: Parlor }) {
  return (
    <ParlorProvider parlor={parlor}>
      <Room roomID="class#1" />
    </ParlorProvider>
  );
}

function Room({ roomID }: { roomID: string }) {
  const connection = useConnection();
  const { room, state, reason, error, enter } = useRoom(roomID, { roomName: 'First class' });
  const { members, count } = useMembers(room);
  const { messages, hasEarlier, loadEarlier } = useMessages(room);
  if (error) return <p role="alert">{error.message}</p>;
  if (state === 'disconnected') return <button onClick={enter}>Enter again {reason}</button>;
  return (
    <section aria-busy={state !== 'connected'} data-connection={connection.state}>
      <h1>{room?.room.roomName}</h1>
      <p>
        {count} members: {members.map(({ userName }) => userName).join(', ')}
      </p>
      {hasEarlier && <button onClick={loadEarlier}>Earlier</button>}
      <ol>
        {messages.map((message) => (
          <li key={message.messageID}>
            {message.recalled ? <i>recalled</i> : 'text' in message ? message.text : message.kind}
          </li>
        ))}
      </ol>
      <button onClick={() => void room?.send({ text: 'Hello' })}>Greet</button>
    </section>
  );
}
