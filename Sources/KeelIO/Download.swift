import Foundation

/// A file fetched from the first mirror that gives it whole and right.
///
/// What has arrived is kept in `<destination>.partial`: a second attempt, in this run or a later one, asks only for the
/// rest. The destination appears in one step, after the check.
public struct Download: Sendable {
  /// How far a download is.
  public struct Progress: Sendable, Equatable {
    public var file: String
    public var mirror: URL
    /// Bytes of the file that are here, those of earlier attempts included.
    public var received: Int
    /// The size of the file, when the server tells it.
    public var expected: Int?
  }

  public typealias ProgressHandler = @Sendable (Progress) -> Void

  /// Where the file may be had, in the order of trying.
  public var mirrors: [URL]
  /// Where the file goes; its folder is made when missing.
  public var destination: String
  /// Looks at the bytes as received and throws when they are not the ones wanted.
  public var check: @Sendable (_ bytes: [UInt8]) throws -> Void
  /// Seconds without a byte after which an attempt ends.
  public var idleTimeout: Double = 30
  /// Seconds after which an attempt ends in any case.
  public var totalTimeout: Double = 3600
  /// Attempts a mirror; a further one is made only when the last one brought bytes.
  public var attempts = 3
  /// The most bytes that are accepted.
  public var limit = 1 << 32
  /// What the user can do without a network; the last lines of the error.
  public var offlineAdvice: String?

  public init(mirrors: [URL], destination: String, check: @escaping @Sendable (_ bytes: [UInt8]) throws -> Void) {
    self.mirrors = mirrors
    self.destination = destination
    self.check = check
  }

  /// The last component of the destination.
  public var file: String { URL(fileURLWithPath: destination).lastPathComponent }

  /// Fetches the file; returns when it is in place. Cancelling the task ends the transfer and keeps what has arrived.
  ///
  /// - Parameter progress: called on a background thread for every piece that arrives.
  /// - Throws: ``DownloadError`` with what each mirror said, `CancellationError`, or `FormatError` when the destination
  ///   cannot be written.
  public func run(progress: @escaping ProgressHandler = { _ in }) async throws {
    let cancellation = Cancellation()
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        // A thread of its own: the pools have few, and this one waits most of the time.
        Thread.detachNewThread {
          continuation.resume(with: Result { try fetch(progress: progress, cancellation: cancellation) })
        }
      }
    } onCancel: {
      cancellation.cancel()
    }
  }

  /// As ``run(progress:)``, for callers that are not asynchronous: blocks the calling thread.
  public func runBlocking(progress: @escaping ProgressHandler = { _ in }) throws {
    try fetch(progress: progress, cancellation: Cancellation())
  }

  private func fetch(progress: @escaping ProgressHandler, cancellation: Cancellation) throws {
    let partial = try PartialFile(for: destination)
    defer { partial.close() }
    var failures: [DownloadError.Failure] = []
    for mirror in mirrors {
      do {
        try fetch(from: mirror, into: partial, progress: progress, cancellation: cancellation)
        try partial.moveToDestination()
        return
      } catch let failure as DownloadError.Failure {
        failures.append(failure)
      }
    }
    throw DownloadError(file: file, failures: failures, advice: offlineAdvice)
  }

  /// Tries one mirror; throws `DownloadError.Failure` when the next one should be tried.
  private func fetch(
    from mirror: URL, into partial: PartialFile, progress: @escaping ProgressHandler, cancellation: Cancellation
  ) throws {
    var attempt = 1
    while true {
      let resumedAt = try partial.count()
      let transfer = Transfer(of: self, from: mirror, into: partial, resumedAt: resumedAt, progress: progress)
      let outcome = try cancellation.run(transfer)
      switch outcome {
      case .complete:
        do {
          try check(try partial.contents())
          return
        } catch {
          try partial.truncate()
          // Pieces of two mirrors, or of two editions, do not make a file: ask for all of it once.
          guard resumedAt > 0 && transfer.didResume else { throw DownloadError.Failure(mirror, "\(error)") }
        }
      case .cannotResume:
        // A range is also refused when nothing is left to ask for.
        if resumedAt > 0, (try? check(partial.contents())) != nil { return }
        try partial.truncate()
        guard resumedAt > 0 else { throw DownloadError.Failure(mirror, "the server refuses every range") }
      case .refused(let reason):
        throw DownloadError.Failure(mirror, reason)
      case .interrupted(let reason):
        let progressed = try partial.count() > resumedAt
        guard progressed, attempt < attempts else { throw DownloadError.Failure(mirror, reason) }
        attempt += 1
      }
    }
  }
}

/// No mirror gave the file: what each of them said, and what to do without a network.
public struct DownloadError: Error, CustomStringConvertible {
  /// What came of one mirror.
  public struct Failure: Error, Equatable, Sendable {
    public let mirror: URL
    public let reason: String

    init(_ mirror: URL, _ reason: String) {
      self.mirror = mirror
      self.reason = reason
    }
  }

  public let file: String
  public let failures: [Failure]
  public let advice: String?

  public var description: String {
    let lines = failures.map { "  \($0.mirror.absoluteString): \($0.reason)" }
    let said = lines.isEmpty ? ["  there is no mirror to ask"] : lines
    return
      (["[download] \(file): expected from \(failures.count) mirrors, got it from none"] + said
      + (advice.map { [$0] } ?? [])).joined(separator: "\n")
  }
}
