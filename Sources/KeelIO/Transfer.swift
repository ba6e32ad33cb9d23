import Foundation

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// One request for (the rest of) a file, its bytes appended to the partial file as they come.
///
/// Unchecked: after `run` has started the request, the mutable state is touched only on the session's serial delegate
/// queue, until the semaphore hands it back to the thread that waits in `run`.
final class Transfer: NSObject, URLSessionDataDelegate, @unchecked Sendable {
  enum Outcome: Equatable {
    case complete
    /// The server cannot continue where the partial file ends.
    case cannotResume
    /// The server has no such file for us: no use in asking it again.
    case refused(String)
    /// The connection was not made or did not last.
    case interrupted(String)
  }

  /// Whether the server continued the partial file.
  private(set) var didResume = false

  private let download: Download
  private let mirror: URL
  private let partial: PartialFile
  private let resumedAt: Int
  private let progress: Download.ProgressHandler
  private let done = DispatchSemaphore(value: 0)
  private let task = Locked<URLSessionTask?>(nil)
  private var received = 0
  private var expected: Int?
  private var outcome: Outcome?
  private var diskError: (any Error)?

  init(
    of download: Download, from mirror: URL, into partial: PartialFile, resumedAt: Int,
    progress: @escaping Download.ProgressHandler
  ) {
    self.download = download
    self.mirror = mirror
    self.partial = partial
    self.resumedAt = resumedAt
    self.progress = progress
  }

  /// Makes the request and waits for its end. Throws what the disk said when the bytes could not be kept.
  func run() throws -> Outcome {
    let configuration = URLSessionConfiguration.ephemeral
    configuration.timeoutIntervalForRequest = download.idleTimeout
    configuration.timeoutIntervalForResource = download.totalTimeout
    let queue = OperationQueue()
    queue.maxConcurrentOperationCount = 1
    let session = URLSession(configuration: configuration, delegate: self, delegateQueue: queue)
    var request = URLRequest(url: mirror, timeoutInterval: download.idleTimeout)
    // A range counts bytes of the file, so the server must not pack them for the way.
    request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
    if resumedAt > 0 { request.setValue("bytes=\(resumedAt)-", forHTTPHeaderField: "Range") }
    let task = session.dataTask(with: request)
    self.task.set(task)
    task.resume()
    done.wait()
    session.finishTasksAndInvalidate()
    if let diskError { throw diskError }
    return outcome ?? .interrupted("ended without an answer")
  }

  func cancel() { task.get()?.cancel() }

  func urlSession(
    _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
    completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
  ) {
    do {
      outcome = try accept(response)
    } catch {
      diskError = error
    }
    guard outcome != nil || diskError != nil else { return completionHandler(.allow) }
    completionHandler(.cancel)
    // Foundation on Linux does not look at the disposition.
    dataTask.cancel()
  }

  /// Reads the head of the answer; nil when its bytes are wanted.
  private func accept(_ response: URLResponse) throws -> Outcome? {
    guard let http = response as? HTTPURLResponse else { return .refused("expected an answer in HTTP") }
    let length = response.expectedContentLength >= 0 ? Int(response.expectedContentLength) : nil
    switch http.statusCode {
    case 200:
      // The whole file, whatever was asked for.
      try partial.truncate()
      received = 0
      expected = length
    case 206:
      guard resumedAt > 0, let range = ContentRange(http.value(forHTTPHeaderField: "Content-Range")),
        range.start == resumedAt
      else { return .cannotResume }
      didResume = true
      received = resumedAt
      expected = range.total ?? length.map { resumedAt + $0 }
    case 416: return .cannotResume
    default:
      return .refused("HTTP \(http.statusCode) \(HTTPURLResponse.localizedString(forStatusCode: http.statusCode))")
    }
    if let expected, expected > download.limit {
      return .refused("\(expected) bytes, expected at most \(download.limit)")
    }
    report()
    return nil
  }

  func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
    guard outcome == nil, diskError == nil else { return }
    do {
      guard received + data.count <= download.limit else {
        try partial.truncate()
        outcome = .refused("more than the limit of \(download.limit) bytes")
        return dataTask.cancel()
      }
      try partial.append(data)
      received += data.count
      report()
    } catch {
      diskError = error
      dataTask.cancel()
    }
  }

  func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
    if outcome == nil {
      if let error {
        let size = expected.map { " of \($0)" } ?? ""
        outcome = .interrupted(describe(error) + (received > 0 ? " after \(received)\(size) bytes" : ""))
      } else if let expected, received < expected {
        outcome = .interrupted("ended after \(received) of \(expected) bytes")
      } else {
        outcome = .complete
      }
    }
    done.signal()
  }

  private func report() {
    progress(Download.Progress(file: download.file, mirror: mirror, received: received, expected: expected))
  }

  /// Foundation's own text tells little on Linux, and differs between systems.
  private func describe(_ error: any Error) -> String {
    switch (error as? URLError)?.code {
    case .cannotFindHost, .dnsLookupFailed: "the host name was not found"
    case .cannotConnectToHost: "no connection to the host"
    case .notConnectedToInternet: "no network"
    case .timedOut: "no answer in time"
    case .networkConnectionLost: "the connection was lost"
    case .secureConnectionFailed, .serverCertificateUntrusted: "no secure connection"
    default: received > 0 ? "the connection was lost" : error.localizedDescription
    }
  }
}

/// `bytes 100-199/200`, the part of a file that an answer holds.
struct ContentRange: Equatable {
  let start: Int
  let total: Int?

  init?(_ header: String?) {
    guard let header, header.hasPrefix("bytes "), let dash = header.firstIndex(of: "-") else { return nil }
    guard let start = Int(header[header.index(header.startIndex, offsetBy: 6)..<dash]), start >= 0 else { return nil }
    self.start = start
    total = header.split(separator: "/").last.flatMap { Int($0) }
  }
}

/// Says to whoever waits for a transfer that nobody wants it any more.
final class Cancellation: Sendable {
  private let state = Locked<(isCancelled: Bool, transfer: Transfer?)>((false, nil))

  func cancel() {
    state.update {
      $0.isCancelled = true
      return $0.transfer
    }?.cancel()
  }

  /// Runs a transfer that `cancel` ends.
  func run(_ transfer: Transfer) throws -> Transfer.Outcome {
    let isCancelled = state.update {
      $0.transfer = transfer
      return $0.isCancelled
    }
    guard !isCancelled else { throw CancellationError() }
    let outcome = try transfer.run()
    guard !state.get().isCancelled else { throw CancellationError() }
    return outcome
  }
}

/// A value behind a lock. Unchecked: every access takes the lock.
final class Locked<Value>: @unchecked Sendable {
  private let lock = NSLock()
  private var value: Value

  init(_ value: Value) { self.value = value }

  func get() -> Value { lock.withLock { value } }
  func set(_ value: Value) { lock.withLock { self.value = value } }
  func update<Result>(_ body: (inout Value) -> Result) -> Result { lock.withLock { body(&value) } }
}
