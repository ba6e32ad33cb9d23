import Foundation
import KeelCore
import KeelIO
import Testing

@testable import KeelTrain

/// Where MNIST's own files are, on machines that have them.
private let realFiles = ProcessInfo.processInfo.environment["KEEL_DATA"].flatMap { $0.isEmpty ? nil : $0 }

@Suite struct MNISTTests {
  private let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "/keel-mnist-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func write(_ bytes: [UInt8], _ path: String) throws {
    let url = URL(fileURLWithPath: folder + "/" + path)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: url)
  }

  /// Four files of 3 and 2 images of 2×2 pixels.
  private func quartet(in sub: String = "", suffix: (String) -> String = { $0 }) throws {
    for (part, count) in [("train", 3), ("t10k", 2)] {
      let images = try IDX.encode(HostTensor([count, 2, 2], (0..<UInt8(count * 4)).map { $0 }))
      let labels = try IDX.encode(HostTensor([count], (0..<UInt8(count)).map { $0 }))
      try write(images, sub + suffix("\(part)-images-idx3-ubyte"))
      try write(try Gzip.compress(labels), sub + suffix("\(part)-labels-idx1-ubyte"))
    }
  }

  private func message<Result>(_ body: () throws -> Result) -> String {
    do { return "no error, but \(try body())" } catch { return "\(error)" }
  }

  @Test(arguments: ["", ".gz", "dotted"]) func folderUnderEveryName(style: String) throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try quartet { style == "dotted" ? $0.replacingOccurrences(of: "-idx", with: ".idx") : $0 + style }
    let pair = try IDXFolder.load(folder, name: "toy", classCount: 3)
    #expect(pair.train.count == 3 && pair.test.count == 2)
    #expect(pair.train.features.type == TensorType([3, 2, 2], .uint8))
    #expect(pair.train.scale == 1.0 / 255 && pair.train.name == "toy")
  }

  @Test func namedFolderItsSubFolderAndTheEnvironment() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try quartet(in: "mnist/")
    #expect(try MNIST.locate(directory: folder, environment: [:]) == folder + "/mnist")
    #expect(try MNIST.locate(directory: folder + "/mnist", environment: [:]) == folder + "/mnist")
    #expect(try MNIST.load(environment: ["KEEL_DATA": folder]).train.count == 3)
    // The argument wins.
    #expect(try MNIST.load(directory: folder, environment: ["KEEL_DATA": "/nowhere"]).train.count == 3)
  }

  @Test func theCacheComesLast() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let environment = ["XDG_CACHE_HOME": folder, "HOME": "/nowhere"]
    #expect(MNIST.cacheDirectory(environment: environment) == folder + "/keel/mnist")
    #expect(MNIST.cacheDirectory(environment: ["XDG_CACHE_HOME": "relative", "HOME": "/h"]) == "/h/.cache/keel/mnist")
    #expect(try MNIST.locate(environment: environment) == nil)
    #expect(try MNIST.locate(environment: environment.merging(["KEEL_DATA": ""]) { $1 }) == nil)
    try quartet(in: "keel/mnist/")
    #expect(try MNIST.locate(environment: environment) == folder + "/keel/mnist")
    #expect(try MNIST.load(environment: environment).test.count == 2)
  }

  @Test func aNamedFolderThatLacksAFile() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try quartet()
    try FileManager.default.removeItem(atPath: folder + "/t10k-labels-idx1-ubyte")
    let expected = """
      [dataset] mnist: expects four files in one folder, plain or .gz; not there:
        \(folder): t10k-labels-idx1-ubyte
        \(folder)/mnist: (no such folder) train-images-idx3-ubyte, train-labels-idx1-ubyte, \
      t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte
      (train-images.idx3-ubyte and the like are also read)
      """
    #expect(message { try MNIST.load(directory: folder, environment: [:]) } == expected)
    #expect(message { try MNIST.load(environment: ["KEEL_DATA": folder]) } == expected)
    #expect(message { try IDXFolder.load("/nowhere", name: "toy") }.contains("/nowhere: (no such folder) train-images"))
  }

  @Test func faultsInTheFilesNameTheFile() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try quartet()
    #expect(
      message { try IDXFolder.load(folder, name: "toy", classCount: 2) }
        == "[idx] \(folder)/train-labels-idx1-ubyte: label 2 at index 2, expected 0…1")
    try write(try IDX.encode(HostTensor([2], [UInt8(0), 1])), "train-labels-idx1-ubyte")
    #expect(message { try IDXFolder.load(folder, name: "toy") }.contains("2 labels for the 3 images of"))
    try write([0, 0, 8, 3], "train-images-idx3-ubyte")
    #expect(message { try IDXFolder.load(folder, name: "toy") }.contains("/train-images-idx3-ubyte: truncated"))
  }

  @Test func aBrokenNetworkSaysWhatToDo() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write([0], "train-images-idx3-ubyte")
    let error = await #expect(throws: DownloadError.self) {
      try await MNIST.download(to: folder, mirrors: ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b/"])
    }
    // The images are there under another name, so the labels are asked for first.
    #expect(
      error?.description == """
        [download] train-labels-idx1-ubyte.gz: expected from 2 mirrors, got it from none
          http://127.0.0.1:1/a/train-labels-idx1-ubyte.gz: no connection to the host
          http://127.0.0.1:1/b/train-labels-idx1-ubyte.gz: no connection to the host
        Without a network: put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, \
        t10k-labels-idx1-ubyte.gz
        into \(folder), or into any folder named by --data-dir or KEEL_DATA; or use the embedded digits: --data digits.
        """)
  }

  @Test func downloadsAreCheckedUnpacked() throws {
    let downloads = MNIST.downloads(to: folder, mirrors: MNIST.mirrors)
    #expect(downloads.map(\.file) == IDXFolder.names.map { $0 + ".gz" })
    #expect(downloads.allSatisfy { $0.mirrors.count == 3 && $0.mirrors.allSatisfy { $0.scheme == "https" } })
    let packed = try Gzip.compress([1, 2, 3])
    for bytes in [packed, [1, 2, 3]] {
      #expect(
        message { try downloads[0].check(bytes) }
          == "[checksum] train-images-idx3-ubyte.gz: expected SHA-256 \(MNIST.checksums[IDXFolder.names[0]] ?? ""), got "
          + Checksum.sha256([1, 2, 3]))
    }
  }

  @Test(.enabled(if: realFiles != nil, "KEEL_DATA names no folder: MNIST's own files are not read"))
  func theRealFiles() throws {
    let data = try #require(realFiles)
    let directory = try #require(try MNIST.locate(directory: data, environment: [:]))
    let mnist = try IDXFolder.load(directory, name: "mnist")
    #expect(mnist.train.features.type == TensorType([60_000, 28, 28], .uint8))
    #expect(mnist.test.features.type == TensorType([10_000, 28, 28], .uint8))
    #expect(mnist.train.targets.doubles.prefix(8) == [5, 0, 4, 1, 9, 2, 1, 3])
    #expect(mnist.test.targets.doubles.prefix(8) == [7, 2, 1, 0, 4, 1, 4, 9])
    // The checks that a download must pass let the real files through.
    for download in MNIST.downloads(to: folder + "/absent", mirrors: MNIST.mirrors) {
      let name = String(download.file.dropLast(3))
      let path = try #require(IDXFolder.find(name, in: directory))
      try download.check([UInt8](Data(contentsOf: URL(fileURLWithPath: path))))
    }
  }
}
