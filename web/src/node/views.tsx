// What whoever runs the node sees. Loaded when it is opened: who only calls does not wait for it.
import './node.css';
import { CallDetailView, CallsView } from './calls';
import { LogView } from './log';
import { NetworkView } from './network';
import { Overview } from './overview';
import { PeopleView } from './people';
import { SetupView } from './setup';

export default function NodeViews({ at }: { at: string }) {
  const call = /^\/node\/calls\/(.+)$/.exec(at)?.[1];
  if (call) return <CallDetailView callId={decodeURIComponent(call)} />;
  const log = /^\/node\/log(?:\?call=(.+))?$/.exec(at);
  if (log) return <LogView key={at} call={log[1] ? decodeURIComponent(log[1]) : ''} />;
  switch (at) {
    case '/node/network':
      return <NetworkView />;
    case '/node/calls':
      return <CallsView />;
    case '/node/people':
      return <PeopleView />;
    case '/node/setup':
      return <SetupView />;
    default:
      return <Overview />;
  }
}
