import FlyingFox
import FlyingSocks
import Foundation
import KeelIO
import Testing

// One after another: each has a server and waits, which few threads can do for all at once.
@Suite(.serialized) struct DownloadTests {
  private let folder: TemporaryFolder
  private let contents = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }

  init() throws { folder = try TemporaryFolder() }

  private func download(_ mirrors: [URL]) -> Download {
    var download = Download(mirrors: mirrors, destination: folder.file("sub/data.bin")) { [contents] bytes in
      try Checksum.verify(bytes, sha256: Checksum.sha256(contents), name: "data.bin")
    }
    download.idleTimeout = 60
    download.totalTimeout = 120
    return download
  }

  private func arrived() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.file("sub")).sorted()
  }

  @Test func missingThenNextMirror() async throws {
    let server = try await TestServer { [contents] in
      $0.path == "/b" ? HTTPResponse(statusCode: .ok, body: Data(contents)) : HTTPResponse(statusCode: .notFound)
    }
    let seen = Log<Download.Progress>()
    try await download([server.url("a"), server.url("b")]).run { seen.append($0) }
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    #expect(try arrived() == ["data.bin"])
    #expect(server.requests.all.map(\.path) == ["/a", "/b"])
    let last = try #require(seen.all.last)
    #expect(last.received == contents.count && last.expected == contents.count && last.mirror == server.url("b"))
    #expect(zip(seen.all, seen.all.dropFirst()).allSatisfy { $0.received <= $1.received })
    await server.stop()
  }

  @Test func wrongChecksumThenNextMirror() async throws {
    let server = try await TestServer { [contents] in
      HTTPResponse(statusCode: .ok, body: Data($0.path == "/b" ? contents : contents.reversed()))
    }
    try await download([server.url("a"), server.url("b")]).run()
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    // The wrong bytes are not kept, so nothing is resumed.
    #expect(server.requests.all.map(\.range) == [nil, nil])
    await server.stop()
  }

  @Test func resumesAfterACut() async throws {
    let server = try await TestServer { [contents] request in
      guard let range = request.headers[.range] else { return .cut(contents, after: 70_000) }
      return .rest(of: contents, range: range)
    }
    try await download([server.url("a")]).run()
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    let requests = server.requests.all
    #expect(requests.count == 2)
    #expect(requests.last?.range == "bytes=70000-")
    await server.stop()
  }

  @Test func resumesAnEarlierRun() async throws {
    let server = try await TestServer { [contents] request in
      .rest(of: contents, range: request.headers[.range] ?? "bytes=0-")
    }
    try FileManager.default.createDirectory(atPath: folder.file("sub"), withIntermediateDirectories: true)
    try folder.write(Array(contents.prefix(150_000)), to: "sub/data.bin.partial")
    let seen = Log<Download.Progress>()
    let download = download([server.url("a")])
    try await onAThread { try download.runBlocking { seen.append($0) } }
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    #expect(server.requests.all.map(\.range) == ["bytes=150000-"])
    #expect(seen.all.first?.received == 150_000 && seen.all.first?.expected == contents.count)
    await server.stop()
  }

  @Test func startsOverWhenTheServerIgnoresTheRange() async throws {
    let server = try await TestServer { [contents] _ in HTTPResponse(statusCode: .ok, body: Data(contents)) }
    try FileManager.default.createDirectory(atPath: folder.file("sub"), withIntermediateDirectories: true)
    try folder.write([9, 9, 9], to: "sub/data.bin.partial")
    try await download([server.url("a")]).run()
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    #expect(server.requests.all.map(\.range) == ["bytes=3-"])
    await server.stop()
  }

  @Test func startsOverWhenThePiecesDoNotFit() async throws {
    let server = try await TestServer { [contents] request in
      request.headers[.range].map { .rest(of: contents, range: $0) }
        ?? HTTPResponse(statusCode: .ok, body: Data(contents))
    }
    try FileManager.default.createDirectory(atPath: folder.file("sub"), withIntermediateDirectories: true)
    try folder.write([9, 9, 9], to: "sub/data.bin.partial")
    try await download([server.url("a")]).run()
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    #expect(server.requests.all.map(\.range) == ["bytes=3-", nil])
    await server.stop()
  }

  @Test(arguments: [true, false]) func rangeNotSatisfiable(isWhole: Bool) async throws {
    let server = try await TestServer { [contents] request in
      request.headers[.range] == nil
        ? HTTPResponse(statusCode: .ok, body: Data(contents))
        : HTTPResponse(statusCode: HTTPStatusCode(416, phrase: "Range"))
    }
    try FileManager.default.createDirectory(atPath: folder.file("sub"), withIntermediateDirectories: true)
    try folder.write(isWhole ? contents : contents + [1], to: "sub/data.bin.partial")
    try await download([server.url("a")]).run()
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    #expect(server.requests.all.count == (isWhole ? 1 : 2))
    await server.stop()
  }

  @Test func allDown() async throws {
    let server = try await TestServer { [contents] in
      switch $0.path {
      case "/cut": .cut(contents, after: 10)
      case "/wrong": HTTPResponse(statusCode: .ok, body: Data([1, 2, 3]))
      default: HTTPResponse(statusCode: .notFound)
      }
    }
    var download = download([
      server.url("gone"), server.url("wrong"), server.url("cut"),
      try #require(URL(string: "http://127.0.0.1:1/closed")),
    ])
    download.offlineAdvice = "Put data.bin into the folder sub."
    let error = await #expect(throws: DownloadError.self) { try await download.run() }
    let text = try #require(error).description
    #expect(
      text == """
        [download] data.bin: expected from 4 mirrors, got it from none
          \(server.url("gone")): HTTP 404 \(phrase(404))
          \(server.url("wrong")): [checksum] data.bin: expected SHA-256 \(Checksum.sha256(contents)), got \
        \(Checksum.sha256([1, 2, 3]))
          \(server.url("cut")): the connection was lost after 10 of 200000 bytes
          http://127.0.0.1:1/closed: no connection to the host
        Put data.bin into the folder sub.
        """)
    // What came before the cut is kept for another day.
    #expect(try arrived() == ["data.bin.partial"])
    await server.stop()
  }

  @Test func tooLarge() async throws {
    let server = try await TestServer { [contents] in
      $0.path == "/told"
        ? HTTPResponse(statusCode: .ok, body: Data(contents))
        : HTTPResponse(statusCode: .ok, body: HTTPBodySequence(from: Pieces(bytes: contents)))
    }
    var download = download([server.url("told"), server.url("untold")])
    download.limit = 100_000
    let error = await #expect(throws: DownloadError.self) { try await download.run() }
    #expect(
      error?.failures.map { $0.reason } == [
        "200000 bytes, expected at most 100000", "more than the limit of 100000 bytes",
      ])
    #expect(try arrived() == [])
    await server.stop()
  }

  @Test func silentServer() async throws {
    let server = try await TestServer { _ in
      try await Task.sleep(for: .seconds(20))
      return HTTPResponse(statusCode: .ok)
    }
    var download = download([server.url("a")])
    download.idleTimeout = 1
    let error = await #expect(throws: DownloadError.self) { try await download.run() }
    #expect(error?.failures.map(\.reason) == ["no answer in time"])
    await server.stop()
  }

  @Test func cancelled() async throws {
    let server = try await TestServer { _ in
      try await Task.sleep(for: .seconds(20))
      return HTTPResponse(statusCode: .ok)
    }
    let download = download([server.url("a"), server.url("b")])
    let task = Task { try await download.run() }
    try await server.waitForRequest()
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(server.requests.all.count == 1)
    await server.stop()
  }

  @Test func oneAtATime() async throws {
    let server = try await TestServer { [contents] _ in
      try await Task.sleep(for: .milliseconds(500))
      return HTTPResponse(statusCode: .ok, body: Data(contents))
    }
    var patient = download([server.url("a")])
    patient.idleTimeout = 600
    let download = patient
    let first = Task { try await download.run() }
    try await server.waitForRequest()
    let error = await #expect(throws: FormatError.self) { try await download.run() }
    #expect(error?.offence == "another process is fetching it; try again when that has finished")
    try await first.value
    #expect(try folder.bytes(of: "sub/data.bin") == contents)
    await server.stop()
  }

  @Test func folderThatCannotBeMade() async throws {
    let file = try folder.write([1], to: "file")
    let download = Download(mirrors: [], destination: file + "/data.bin") { _ in }
    let error = await #expect(throws: FormatError.self) { try await download.run() }
    #expect(error?.description.hasPrefix("[download] \(file)/data.bin: cannot be written") == true)
  }

  @Test func noMirrors() async throws {
    let error = await #expect(throws: DownloadError.self) { try await download([]).run() }
    #expect(error?.description.contains("there is no mirror to ask") == true)
  }
}
