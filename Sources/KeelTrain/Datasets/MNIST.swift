import Foundation
import KeelCore
import KeelIO

/// The MNIST database of handwritten digits (LeCun, Cortes, Burges): 60 000 training and 10 000 test images of 28×28.
public enum MNIST {
  /// Where the files are had, in the order of trying.
  public static let mirrors = [
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
  ]

  /// SHA-256 of the four files, unpacked: mirrors pack them differently.
  static let checksums = [
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
  ]

  /// Reads MNIST: features `u8[n, 28, 28]`, scale 1/255, 10 classes.
  ///
  /// The files are taken from `directory`, else from `KEEL_DATA`, else from the cache; what the cache lacks is
  /// downloaded into it. A folder that was named must hold all four files, in itself or in its sub-folder `mnist`.
  /// Blocks the calling thread while it downloads; to stay asynchronous, `await` ``download(to:mirrors:progress:)``
  /// first.
  ///
  /// - Parameters:
  ///   - directory: the folder to read, as given by the user.
  ///   - environment: where `KEEL_DATA`, `XDG_CACHE_HOME` and `HOME` are looked up.
  ///   - progress: called while something is downloaded, on a background thread.
  /// - Throws: `DatasetError` that lists what was looked for, `FormatError` naming a file and its fault, or
  ///   `DownloadError` with what each mirror said.
  public static func load(
    directory: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment,
    progress: @escaping Download.ProgressHandler = { _ in }
  ) throws -> DatasetPair {
    if let named = try locate(directory: directory, environment: environment) {
      return try IDXFolder.load(named, name: "mnist")
    }
    let cache = cacheDirectory(environment: environment)
    for download in downloads(to: cache, mirrors: mirrors) { try download.runBlocking(progress: progress) }
    return try IDXFolder.load(cache, name: "mnist")
  }

  /// The folder that holds MNIST on this machine; nil when it would have to be downloaded.
  ///
  /// - Throws: `DatasetError` when a folder was named, by argument or by `KEEL_DATA`, and lacks a file.
  public static func locate(
    directory: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> String? {
    if let named = directory ?? environment["KEEL_DATA"].flatMap({ $0.isEmpty ? nil : $0 }) {
      let candidates = [named, named + "/mnist"]
      guard let folder = candidates.first(where: IDXFolder.isComplete) else {
        throw IDXFolder.missing("mnist", searched: candidates)
      }
      return folder
    }
    let cache = cacheDirectory(environment: environment)
    return IDXFolder.isComplete(cache) ? cache : nil
  }

  /// `$XDG_CACHE_HOME/keel/mnist`, else `~/.cache/keel/mnist`.
  public static func cacheDirectory(
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String {
    UserCache.folder("mnist", environment) ?? NSHomeDirectory() + "/.cache/keel/mnist"
  }

  /// Downloads the files that a folder lacks, each checked by the SHA-256 of its unpacked bytes.
  ///
  /// - Parameters:
  ///   - directory: made when missing; by default the cache.
  ///   - mirrors: addresses to which the files' names are appended.
  ///   - progress: called on a background thread.
  public static func download(
    to directory: String = cacheDirectory(), mirrors: [String] = mirrors,
    progress: @escaping Download.ProgressHandler = { _ in }
  ) async throws {
    for download in downloads(to: directory, mirrors: mirrors) { try await download.run(progress: progress) }
  }

  static func downloads(to directory: String, mirrors: [String]) -> [Download] {
    IDXFolder.names.filter { IDXFolder.find($0, in: directory) == nil }.map { name in
      let packed = name + ".gz"
      var download = Download(
        mirrors: mirrors.compactMap { URL(string: ($0.hasSuffix("/") ? $0 : $0 + "/") + packed) },
        destination: directory + "/" + packed
      ) { bytes in
        let unpacked = Gzip.isGzip(bytes) ? try Gzip.decompress(bytes, name: packed, limit: 1 << 27) : bytes
        try Checksum.verify(unpacked, sha256: checksums[name] ?? "", name: packed)
      }
      download.limit = 1 << 26
      download.offlineAdvice = """
        Without a network: put \(IDXFolder.names.map { $0 + ".gz" }.joined(separator: ", "))
        into \(directory), or into any folder named by --data-dir or KEEL_DATA; or use the embedded digits: --data digits.
        """
      return download
    }
  }
}
