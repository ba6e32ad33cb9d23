import FlyingFox
import FlyingSocks
import Foundation

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// An HTTP server on a free port of this machine that remembers what it was asked.
final class TestServer: Sendable {
  struct Request: Sendable {
    let path: String
    let range: String?
  }

  let requests = Log<Request>()
  private let server: HTTPServer
  private let task: Task<Void, any Error>
  private let base: String

  init(_ answer: @escaping @Sendable (HTTPRequest) async throws -> HTTPResponse) async throws {
    let requests = requests
    let server = try HTTPServer(address: .inet(ip4: "127.0.0.1", port: 0), logger: .disabled)
    self.server = server
    await server.appendRoute("*") { request in
      requests.append(Request(path: request.path, range: request.headers[.range]))
      return try await answer(request)
    }
    task = Task { try await server.run() }
    try await server.waitUntilListening(timeout: 60)
    guard case .ip4(_, let port)? = await server.listeningAddress else { throw URLError(.cannotConnectToHost) }
    base = "http://127.0.0.1:\(port)/"
  }

  func url(_ path: String) -> URL { URL(string: base + path) ?? URL(fileURLWithPath: path) }

  /// Returns when there was a first request; throws when there is none for five seconds.
  func waitForRequest() async throws {
    for _ in 0..<500 where requests.all.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
    if requests.all.isEmpty { throw URLError(.timedOut) }
  }

  func stop() async {
    await server.stop()
    task.cancel()
  }
}

/// What happened, in order, from any thread.
final class Log<Element: Sendable>: @unchecked Sendable {
  private let lock = NSLock()
  private var elements: [Element] = []

  func append(_ element: Element) { lock.withLock { elements.append(element) } }
  var all: [Element] { lock.withLock { elements } }
}

extension HTTPResponse {
  /// An answer that promises all of `bytes` and ends after some.
  static func cut(_ bytes: [UInt8], after count: Int) -> HTTPResponse {
    HTTPResponse(
      statusCode: .ok, body: HTTPBodySequence(from: Pieces(bytes: bytes, breaksAfter: count), count: bytes.count))
  }

  /// The part of `bytes` that `Range: bytes=n-` asks for.
  static func rest(of bytes: [UInt8], range: String) -> HTTPResponse {
    let start = Int(range.dropFirst("bytes=".count).dropLast()) ?? 0
    return HTTPResponse(
      statusCode: .partialContent, headers: [.contentRange: "bytes \(start)-\(bytes.count - 1)/\(bytes.count)"],
      body: Data(bytes.dropFirst(start)))
  }
}

func phrase(_ status: Int) -> String { HTTPURLResponse.localizedString(forStatusCode: status) }

/// A body that is sent in pieces and may break off, which closes the connection.
struct Pieces: AsyncBufferedSequence {
  typealias Element = UInt8
  let bytes: [UInt8]
  var breaksAfter: Int?

  func makeAsyncIterator() -> Iterator {
    Iterator(rest: bytes.prefix(breaksAfter ?? bytes.count), breaks: breaksAfter != nil)
  }

  struct Iterator: AsyncBufferedIteratorProtocol {
    var rest: ArraySlice<UInt8>
    let breaks: Bool

    mutating func next() async throws -> UInt8? { try await nextBuffer(suggested: 1)?.first }

    mutating func nextBuffer(suggested count: Int) async throws -> ArraySlice<UInt8>? {
      if rest.isEmpty, breaks { throw SocketError.disconnected }
      defer { rest = rest.dropFirst(count) }
      return rest.isEmpty ? nil : rest.prefix(count)
    }
  }
}

/// Runs what blocks on a thread of its own, since the server needs those of the pool.
func onAThread(_ body: @escaping @Sendable () throws -> Void) async throws {
  try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
    Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
  }
}
