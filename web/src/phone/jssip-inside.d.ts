// Parts of JsSIP that its types leave out.
declare module 'jssip/lib/Dialog/RequestSender' {
  interface Response {
    method: string;
    status_code: number;
  }

  export default class RequestSender {
    _dialog: { owner: object };
    _eventHandlers: { onErrorResponse(response: Response): void };
    _receiveResponse(response: Response): void;
  }
}
